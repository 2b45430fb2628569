//! Texts that are not JSON as SPEC 2.1 and 2.2 require, and some that are. Faults in the metadata are in what a decoder need not read.

use mlic_model::package::SectionKind;

use super::packages::{PackageCase, bytes, taken, taken_metadata};

/// A package whose configuration text is changed.
macro_rules! config {
    ($name:literal, $why:literal, $from:literal => $to:literal) => {
        bytes($name, "json", $why, |s| s.least(SectionKind::Config, s.least_config().replacen($from, $to, 1)))
    };
}

/// A package with this text as metadata.
macro_rules! metadata {
    ($name:literal, $why:literal, $text:expr) => {
        bytes($name, "json", $why, |s| s.least(SectionKind::Metadata, $text)).unread()
    };
}

/// Metadata with arrays and objects nested `depth` deep.
fn nested(depth: usize) -> Vec<u8> {
    let (open, close) = ("[".repeat(depth - 1), "]".repeat(depth - 1));
    format!("{{\"name\":\"\",\"deep\":{open}{close}}}").into_bytes()
}

/// Pads a text with spaces to `len` bytes.
fn padded(mut text: String, len: usize) -> String {
    text.extend(std::iter::repeat_n(' ', len - text.len()));
    text
}

/// An object with these bytes in the text of a member.
fn text(bytes: &[u8]) -> Vec<u8> {
    [b"{\"name\":\"", bytes, b"\"}"].concat()
}

/// An object with this number as a member.
fn number(number: &str) -> Vec<u8> {
    format!("{{\"name\":\"\",\"number\":{number}}}").into_bytes()
}

/// Texts, in the order of SPEC 2.1, 2.2.
pub(super) static TEXTS: &[PackageCase] = &[
    config!("config-space-first", "a space before the configuration", "{" => " {"),
    config!("config-form-feed", "a form feed between two members", ",\"window\"" => ",\u{c}\"window\""),
    config!("config-leading-zero", "a number that begins with 0", "\"window\":3" => "\"window\":03"),
    config!("config-minus-zero", "a zero below zero", "\"gain_levels\":0" => "\"gain_levels\":-0"),
    config!("config-wraps", "a number of 2^64 + 3, which 64 bits would take for 3", "\"window\":3" => "\"window\":18446744073709551619"),
    config!("config-comma-last", "a comma after the last member", "63}" => "63,}"),
    config!("config-comma-missing", "no comma between two members", ",\"window\"" => " \"window\""),
    config!("config-twice-escaped", "a member is there twice, once with an escape in its name", "\"window\":3" => "\"window\":3,\"w\\u0069ndow\":3"),
    config!("config-nul-last", "a NUL after the configuration", "63}" => "63}\0"),
    config!("config-bom", "a byte order mark before the configuration", "{" => "\u{feff}{"),
    config!("config-nul", "a NUL behind a name", "\"window\"" => "\"window\\u0000\""),
    bytes("config-long", "oversized", "a configuration of 2^16 + 1 bytes", |s| {
        s.least(SectionKind::Config, padded(s.least_config(), (1 << 16) + 1))
    }),
    metadata!("text-empty", "no metadata", ""),
    metadata!("text-array", "an array with an object", "[{\"name\":\"\"}]"),
    metadata!("text-space-first", "a space before the metadata", " {\"name\":\"\"}"),
    metadata!("text-tail", "something after the metadata", "{\"name\":\"\"}{}"),
    metadata!("text-unclosed", "metadata without an end", "{\"name\":\"\""),
    metadata!("text-comma", "a comma after the last member", "{\"name\":\"\",}"),
    metadata!("text-comma-missing", "no comma between two members", "{\"name\":\"\" \"more\":1}"),
    metadata!("text-colon", "a member without a colon", "{\"name\" \"\"}"),
    metadata!("text-name-missing", "no name", "{\"more\":{\"name\":\"\"}}"),
    metadata!("text-name-number", "a name that is a number", "{\"name\":1}"),
    metadata!("text-name-last", "two names, the last is null: the last counts", "{\"name\":\"\",\"name\":null}"),
    metadata!("text-depth-128", "128 arrays and objects in one another", nested(128)),
    metadata!("text-number-zero", "a number that begins with 0", number("01")),
    metadata!("text-number-point", "a number that ends with its point", number("1.")),
    metadata!("text-number-point-first", "a number that begins with its point", number(".5")),
    metadata!("text-number-sign", "a sign alone", number("-")),
    metadata!("text-number-exponent", "a number without the digits of its exponent", number("1e+")),
    metadata!("text-number-huge-negative", "a number that rounds to minus infinity", number("-2e308")),
    metadata!("text-number-rounds", "a number that rounds to infinity, by little", number("1.7976931348623159e308")),
    metadata!("text-number-nan", "NaN", number("NaN")),
    metadata!("text-control-31", "a control character within a text", text(b"\x1f")),
    metadata!("text-escape", "an escape that does not exist", text(br"\x41")),
    metadata!("text-escape-digit", "an escape of a digit that is none", text(br"\u00g1")),
    metadata!("text-surrogate-high", "the first half of a surrogate pair", text(br"\ud800")),
    metadata!("text-surrogate-low", "the second half of a surrogate pair", text(br"\udfff")),
    metadata!("text-surrogate-other", "the first half of a surrogate pair and another character", text(br"\udbff\u0041")),
    metadata!("text-surrogate-key", "half of a surrogate pair in a name that has no meaning", br#"{"name":"","\udc00":1}"#),
    metadata!("text-utf8-alone", "a byte that continues nothing", text(b"\x80")),
    metadata!("text-utf8-cut", "two bytes of a character of three", text(b"\xe2\x82")),
    metadata!("text-utf8-long-2", "a character in two bytes for one", text(b"\xc1\xbf")),
    metadata!("text-utf8-long-3", "a character in three bytes for two", text(b"\xe0\x9f\xbf")),
    metadata!("text-utf8-long-4", "a character in four bytes for three", text(b"\xf0\x8f\xbf\xbf")),
    metadata!("text-utf8-surrogate", "half of a surrogate pair in three bytes", text(b"\xed\xa0\x80")),
    metadata!("text-utf8-beyond", "a character beyond U+10FFFF", text(b"\xf4\x90\x80\x80")),
    taken("sound-config-escape", "an escape within the name of a member; sound", |s| {
        s.least(SectionKind::Config, s.least_config().replacen("window", r"w\u0069ndow", 1))
    }),
    taken("sound-config-space", "white space wherever it may be, and members in another order; sound", |s| {
        let turned = s.least_config().replacen("\"latent\":2,", "", 1).replacen('}', ",\"latent\":2}", 1);
        let wide = turned.replace(':', " : ").replace(',', "\t,\r\n").replace('[', "[ ").replace(']', " ]");
        s.least(SectionKind::Config, wide.replacen('{', "{\n", 1) + "\r\n\t ")
    }),
    taken("sound-config-long", "a configuration of 2^16 bytes; sound", |s| {
        s.least(SectionKind::Config, padded(s.least_config(), 1 << 16))
    }),
    taken_metadata("sound-text-depth", "127 arrays and objects in one another; sound", || nested(127)),
    taken_metadata("sound-text-name", "an escape within the word name, and two names of which the last counts; sound", || {
        br#"{"name":1,"n\u0061me":""}"#.to_vec()
    }),
    taken_metadata("sound-text-numbers", "numbers of every form; sound", || {
        let digits = "9".repeat(308);
        number(&format!(
            "[0,-0,0.0,-0e0,1E+2,1e-2,10.25,1e308,-1.7976931348623158e308,1e-999,18446744073709551616,-9223372036854775809,{digits}]"
        ))
    }),
    taken_metadata("sound-text-escapes", "every escape; sound", || {
        text(br#"\"\\\/\b\f\n\r\t\u0000\u001F\u00e9\uFFFF\ud7ff\ue000\ud800\udc00\uDBFF\uDFFF"#)
    }),
    taken_metadata("sound-text-utf8", "the first and last character of every length; sound", || {
        text("\u{20}\u{7f}\u{80}\u{7ff}\u{800}\u{d7ff}\u{e000}\u{ffff}\u{10000}\u{10ffff}".as_bytes())
    }),
    taken_metadata("sound-text-values", "values of every kind, empty ones, and white space; sound", || {
        b"{ \"more\" : [ true , false,null\t,\r\n{ } , [ ], {\"\":\"\"} ] , \"name\" : \"\" } \r\n\t".to_vec()
    }),
];
