"""Command line: decode, verify, external."""

import argparse
import json
import sys
import traceback
from pathlib import Path

from . import NAME, VERSION, decoder, package, verify
from .errors import Refusal

DECODED, REFUSED, USAGE, TRUNCATED, DEFECT = 0, 1, 2, 3, 4
EXIT_CODES = """exit codes:
  0  decoded; every vector passed; a verdict was printed (external)
  1  refused; a vector failed, or none ran
  2  wrong usage, or a file that cannot be read
  3  truncated: decoded as far as SPEC 5.5 goes
  4  defect of this program
"""


def main(arguments=None):
    options = _parser().parse_args(arguments)
    try:
        return options.run(options)
    except OSError as error:
        print(f"{NAME}: {error}", file=sys.stderr)
        return USAGE
    except Exception:  # A defect must not look like a refusal.
        traceback.print_exc()
        return DEFECT


def _parser():
    parser = argparse.ArgumentParser(NAME, description="Independent reference decoder of MLIC++ streams: y_hat and exact pixels.",
                                     epilog=EXIT_CODES, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--version", action="version", version=f"{NAME} {VERSION}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    decode = commands.add_parser("decode", help="decode a stream and print its digests")
    decode.add_argument("stream", type=Path)
    decode.add_argument("--package", type=Path, required=True, help="model package")
    decode.add_argument("--json", action="store_true", help="print one JSON object")
    decode.set_defaults(run=_decode)
    check = commands.add_parser("verify", help="compare with the vectors of suites at levels L0 to L4")
    check.add_argument("manifests", type=Path, nargs="+", metavar="MANIFEST")
    check.add_argument("--package", type=Path, action="append", default=[],
                       help="model package where the manifest names none; may be repeated")
    check.add_argument("--vector", action="append", default=[], metavar="NAME", help="this vector only; may be repeated")
    check.set_defaults(run=_verify)
    external = commands.add_parser("external", help="decode a stream for mlic-conform: one JSON object, always exit code 0")
    external.add_argument("--package", type=Path, required=True)
    external.add_argument("--stream", type=Path, required=True)
    external.set_defaults(run=_external)
    return parser


def _load_and_decode(stream_path, package_path):
    """Decodes a stream with a package; a refused package is a refusal like any other."""
    stream, data = stream_path.read_bytes(), package_path.read_bytes()
    try:
        model = package.load(data)
    except Refusal as refusal:
        return decoder.Decoding(refusal=refusal)
    return decoder.decode(stream, model)


def _report(decoding):
    """The message of the protocol for external decoders (conformance/README.md): members without a value
    are absent, and what was decoded before an error is present."""
    report = {"decoder": f"{NAME} {VERSION}"}
    if decoding.stream is not None:
        report["header"] = verify.header_members(decoding.stream)
    report |= {name: value for name, value in decoding.digests().items() if value not in (None, [])}
    if decoding.refusal is not None:
        report["error"] = {"code": decoding.refusal.code, "message": decoding.refusal.message}
    return report


def _external(options):
    print(json.dumps(_report(_load_and_decode(options.stream, options.package))))
    return DECODED


def _verify(options):
    return DECODED if verify.run(options.manifests, options.package, options.vector) else REFUSED


def _decode(options):
    decoding = _load_and_decode(options.stream, options.package)
    if options.json:
        print(json.dumps(_report(decoding), indent=1))
    else:
        _print(decoding)
    if decoding.refusal is not None:
        return REFUSED
    return DECODED if decoding.whole_slices is None else TRUNCATED


def _print(decoding):
    if decoding.stream is not None:
        for name, value in verify.header_members(decoding.stream).items():
            print(f"{name:<16} {value}")
    digests = decoding.digests()
    print(f"{'z':<16} {digests['z']}")
    for this in digests["passes"]:
        for member in ("means", "scale_indices", "symbols"):
            print(f"slice {this['slice']:<2} {this['parity']:<10} {member:<13} {this[member]}")
    print(f"{'y_hat':<16} {digests['y_hat']}")
    if digests["pixels"] is not None:
        print(f"{'pixels':<16} {digests['pixels']}")
    if decoding.whole_slices is not None:
        print(f"{'truncated':<16} {decoding.whole_slices} whole slices")
    if decoding.refusal is not None:
        print(f"{'refused':<16} {decoding.refusal.code}: {decoding.refusal.message}")


if __name__ == "__main__":
    sys.exit(main())
