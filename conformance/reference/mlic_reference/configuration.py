"""The configuration of a model package (SPEC 2.2)."""

import json
from dataclasses import dataclass

from .errors import PackageRefusal

WIDTH_MAX = 4096
SLICE_CHANNELS_MAX = 64


@dataclass(frozen=True)
class Configuration:
    """The members of SPEC 2.2, by their names there."""

    latent: int
    hyper: int
    slices: int
    window: int
    heads: int
    inter_head_channels: int
    ep_hidden: list
    lrp_hidden: list
    cc_hidden: list
    hs_hidden: list
    gain_levels: int
    scale_levels: int
    quality_steps: int
    skip_below: int

    @property
    def slice_channels(self):
        """s, the channels of a latent slice."""
        return self.latent // self.slices

    def level(self, quality):
        """level(q), the level of activation scales of a quality."""
        steps = self.quality_steps
        if steps == 0:
            return 0
        return (2 * quality * (self.scale_levels - 1) + steps) // (2 * steps)


# SPEC 1.3.
MAX_CONFIGURATION_LEN = 1 << 16


def parse(text):
    """Reads and checks the configuration section, bytes."""
    if len(text) > MAX_CONFIGURATION_LEN:
        raise PackageRefusal(f"configuration of {len(text)} bytes")
    if not text.startswith(b"{"):
        raise PackageRefusal("configuration does not begin with an object")
    try:
        members = json.loads(text.decode("utf-8"), object_pairs_hook=_unique, parse_int=_digits)
    except (ValueError, RecursionError) as error:
        raise PackageRefusal(f"configuration is not JSON: {error}") from error
    if set(members) != set(Configuration.__dataclass_fields__):
        raise PackageRefusal("configuration has not exactly the members of SPEC 2.2")
    configuration = Configuration(**members)
    _check(configuration)
    return configuration


def _unique(pairs):
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a member occurs twice")
    return members


def _digits(text):
    if text.startswith("-"):
        raise ValueError("a number with a sign")
    return int(text)


def _check(c):
    def rule(condition, member):
        if not condition:
            raise PackageRefusal(f"configuration: {member}")

    def integer(value, low, high):
        return type(value) is int and low <= value <= high

    def widths(value, least, most):
        return type(value) is list and least <= len(value) <= most and all(integer(v, 1, WIDTH_MAX) for v in value)

    rule(integer(c.latent, 1, WIDTH_MAX), "latent")
    rule(integer(c.hyper, 1, WIDTH_MAX), "hyper")
    rule(integer(c.slices, 1, 64) and c.latent % c.slices == 0, "slices")
    rule(c.slice_channels <= SLICE_CHANNELS_MAX, "channels of a latent slice")
    rule(type(c.window) is int and c.window in (3, 5, 7), "window")
    rule(integer(c.heads, 1, WIDTH_MAX) and c.slice_channels % c.heads == 0, "heads")
    rule(integer(c.inter_head_channels, 1, WIDTH_MAX) and c.slice_channels % c.inter_head_channels == 0,
         "inter_head_channels")
    rule(widths(c.ep_hidden, 1, 4), "ep_hidden")
    rule(type(c.lrp_hidden) is list and len(c.lrp_hidden) == c.slices and all(widths(v, 1, 4) for v in c.lrp_hidden),
         "lrp_hidden")
    rule(widths(c.cc_hidden, 1, 4), "cc_hidden")
    rule(widths(c.hs_hidden, 2, 2), "hs_hidden")
    rule(integer(c.gain_levels, 0, 64) and c.gain_levels != 1, "gain_levels")
    rule(integer(c.scale_levels, 1, 64) and (c.gain_levels > 0 or c.scale_levels == 1), "scale_levels")
    rule(integer(c.quality_steps, 0, 255) and (c.quality_steps > 0) == (c.gain_levels > 0), "quality_steps")
    rule(integer(c.skip_below, 0, 63), "skip_below")
