"""The rANS payload (SPEC 6.3), in Python integers."""

from bisect import bisect_right

from .errors import Refusal

SLOT_BITS = 16
SLOTS = 1 << SLOT_BITS
STATE_MIN = 1 << 32
STATE_BYTES = 6
WORD_BYTES = 2
SYMBOL_MAX = 32767
ESCAPE_BITS_MAX = 16


class Table:
    """A symbol table (SPEC 2.7). `starts` ends with 65536, so that bin k owns starts[k]..starts[k + 1]."""

    def __init__(self, min_symbol, starts):
        self.min_symbol = min_symbol
        self.starts = [*starts, SLOTS]
        self.escape = len(starts) - 1
        self.max_symbol = min_symbol + len(starts) - 2

    def owner(self, slot):
        """Number, start and freq of the bin that owns a slot."""
        number = bisect_right(self.starts, slot) - 1
        start = self.starts[number]
        return number, start, self.starts[number + 1] - start


class Decoder:
    """Decodes symbols from a payload, or from the part of it that is there."""

    def __init__(self, payload, lanes_log2):
        lanes = 1 << lanes_log2
        self.payload = payload
        self.offset = STATE_BYTES * lanes
        if len(payload) < self.offset:
            raise Refusal("rans-exhausted", "payload ends within the initial states")
        self.states = [int.from_bytes(payload[STATE_BYTES * k:STATE_BYTES * (k + 1)], "little") for k in range(lanes)]
        self.lane = 0
        for state in self.states:
            if state < STATE_MIN:
                raise Refusal("rans-bad-state", f"initial state {state:#x}")

    def symbol(self, table):
        """One symbol, by a table; escapes are read to their end."""
        number = self._take(table.owner)
        if number != table.escape:
            return table.min_symbol + number
        k = self._bits(5)
        if k > ESCAPE_BITS_MAX:
            raise Refusal("rans-bad-escape", f"escape of {k} bits")
        e = (1 << k) + (self._bits(k) if k > 0 else 0)
        value = table.max_symbol + 1 + e // 2 if e % 2 == 1 else table.min_symbol - e // 2
        if abs(value) > SYMBOL_MAX:
            raise Refusal("rans-symbol-range", f"symbol {value}")
        return value

    def seal(self):
        """After the last symbol: every lane is back at the encoder's first state and every byte was used."""
        for _ in self.states:
            if self._normalized() != STATE_MIN:
                raise Refusal("rans-not-sealed", f"lane {self.lane} ends with state {self.states[self.lane]:#x}")
            self._next_lane()
        if self.offset != len(self.payload):
            raise Refusal("rans-unread", f"{len(self.payload) - self.offset} bytes of payload are left")

    def _normalized(self):
        state = self.states[self.lane]
        if state < STATE_MIN:
            word = self.payload[self.offset:self.offset + WORD_BYTES]
            if len(word) < WORD_BYTES:
                raise Refusal("rans-exhausted", "payload has no word left")
            self.offset += WORD_BYTES
            state = (state << 16) + int.from_bytes(word, "little")
            self.states[self.lane] = state
        return state

    def _next_lane(self):
        self.lane = (self.lane + 1) % len(self.states)

    def _take(self, owner):
        state = self._normalized()
        slot = state % SLOTS
        number, start, freq = owner(slot)
        self.states[self.lane] = freq * (state >> SLOT_BITS) + slot - start
        self._next_lane()
        return number

    def _bits(self, k):
        def owner(slot):
            number = slot >> (SLOT_BITS - k)
            return number, number << (SLOT_BITS - k), 1 << (SLOT_BITS - k)

        return self._take(owner)
