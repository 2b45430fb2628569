//! `mlic info`: the header of a stream, or a model package.

use mlic::container::{self, ContainerError, SectionKind, Stream};
use serde_json::{Value, json};

use crate::args::{Global, InfoArgs};
use crate::console;
use crate::exit::{Exit, Failure};
use crate::files;
use crate::model;

pub(crate) fn run(args: &InfoArgs, global: &Global) -> Result<(), Failure> {
    let name = files::input_name(&args.file);
    let bytes = files::read_stream(&args.file)?;
    let (value, damage) = match container::parse(&bytes) {
        Ok(stream) => (describe(&stream, bytes.len()), stream.damage),
        Err(ContainerError::NotAStream) if !files::is_dash(&args.file) => match files::model(Some(&args.file), global) {
            Ok(model) => (model::describe(&model)?, None),
            Err(_) => return Err(Failure::new(Exit::NotAStream, "cannot inspect", name, "neither a stream nor a model package")),
        },
        Err(error) => return Err(Failure::from_codec("cannot inspect", name, &error.into())),
    };
    print(&value, args.json)?;
    damage.map_or(Ok(()), |damage| Err(Failure::from_codec("incomplete stream", name, &damage.into())))
}

/// Prints an object: as JSON, or one line for each of its values.
pub(crate) fn print(value: &Value, json: bool) -> Result<(), Failure> {
    let text = if json { format!("{value:#}\n") } else { lines("", value) };
    console::stdout(&text)
}

fn lines(prefix: &str, value: &Value) -> String {
    match value {
        Value::Object(fields) => fields
            .iter()
            .map(|(name, value)| lines(&if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") }, value))
            .collect(),
        Value::String(text) => format!("{prefix}: {text}\n"),
        other => format!("{prefix}: {other}\n"),
    }
}

fn describe(stream: &Stream<'_>, len: usize) -> Value {
    let header = &stream.header;
    let sections: serde_json::Map<_, _> = stream.sections.iter().map(|s| (section_name(s.kind), s.bytes.len().into())).collect();
    let pixels = f64::from(header.width) * f64::from(header.height);
    json!({
        "kind": "stream",
        "version": container::VERSION,
        "model": header.model_id.to_string(),
        "width": header.width,
        "height": header.height,
        "gray": header.gray,
        "quality": header.quality,
        "lanes": 1u32 << header.lanes_log2,
        "symbol_checksum": format!("{:08x}", header.symbol_checksum),
        "bytes": len,
        "header_bytes": stream.header_len,
        "payload_bytes": stream.payload_len,
        "bpp": 8.0 * len as f64 / pixels,
        "sections": sections,
        "damage": stream.damage.map(|damage| damage.to_string()),
    })
}

fn section_name(kind: SectionKind) -> String {
    match kind {
        SectionKind::ICC => "icc_bytes".into(),
        SectionKind::EXIF => "exif_bytes".into(),
        SectionKind::XMP => "xmp_bytes".into(),
        SectionKind(other) => format!("section_{other}_bytes"),
    }
}
