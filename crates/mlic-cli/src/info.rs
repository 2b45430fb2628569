//! `mlic info`: the header of a stream, or a model package.

use std::path::Path;

use mlic::Model;
use mlic::container::{self, ContainerError, SectionKind, Stream};
use serde_json::{Value, json};

use crate::args::{Global, InfoArgs};
use crate::batch::{self, Batch};
use crate::console;
use crate::exit::{Exit, Failure};
use crate::files::{self, Content};
use crate::model;
use crate::quality;

/// Version of the JSON that `mlic` prints (docs/JSON.md).
pub(crate) const FORMAT: u32 = 1;
const WHAT: &str = "cannot inspect";

/// The description of a file, and what is wrong with the file if it could be described nevertheless.
type Inspected = (Value, Result<(), Failure>);

/// The model in use, loaded when a stream first asks for it. The inner `Option` is `None` if the program has no model.
struct InUse<'a> {
    global: &'a Global,
    model: Option<Option<Model>>,
}

impl InUse<'_> {
    /// The quality steps of the stream's model, if that is the model in use.
    fn steps_of(&mut self, stream: &Stream<'_>) -> Result<Option<u8>, Failure> {
        let model = match self.model.take() {
            Some(model) => model,
            None => files::model_in_use(self.global)?,
        };
        let own = self.model.insert(model).as_ref().filter(|model| model.id() == stream.header.model_id);
        Ok(own.map(Model::quality_steps))
    }
}

pub(crate) fn run(args: &InfoArgs, global: &Global) -> Result<(), Failure> {
    let mut in_use = InUse { global, model: None };
    if let [file] = &args.files[..] {
        let (value, end) = inspect(file, args.json, &mut in_use)?;
        print(value, args.json)?;
        return end;
    }
    batch::check_alone(&args.files)?;
    let (mut files, mut failed, mut batch) = (Vec::new(), Vec::new(), Batch::default());
    for file in &args.files {
        let path = file.display().to_string();
        let end = inspect(file, args.json, &mut in_use).and_then(|(mut value, end)| {
            if args.json {
                value["path"] = path.as_str().into();
                files.push(value);
            } else {
                console::stdout(&format!("{}{}\n", lines("path", &path.as_str().into()), lines("", &value)))?;
            }
            end
        });
        if let Err(failure) = end {
            failed.push(json!({ "path": path, "error": batch.failed(failure) }));
        }
    }
    if args.json {
        print(json!({ "files": files, "failed": failed }), true)?;
    }
    batch.end()
}

fn inspect(file: &Path, json: bool, in_use: &mut InUse<'_>) -> Result<Inspected, Failure> {
    let name = files::input_name(file);
    match files::read_stream_or_package(file)? {
        Content::Stream(bytes) => stream(&bytes, &name, json, in_use),
        Content::Package(bytes) => {
            let model = Model::from_bytes(bytes).map_err(|error| Failure::from_codec(WHAT, name, &error.into()))?;
            Ok((model::describe(&model)?, Ok(())))
        }
    }
}

fn stream(bytes: &[u8], name: &str, json: bool, in_use: &mut InUse<'_>) -> Result<Inspected, Failure> {
    let stream = container::parse(bytes).map_err(|error| match error {
        ContainerError::NotAStream => Failure::new(Exit::NotAStream, WHAT, name, "neither a stream nor a model package"),
        error => Failure::from_codec(WHAT, name, &error.into()),
    })?;
    let steps = in_use.steps_of(&stream)?;
    let mut value = describe(&stream, bytes.len(), steps);
    if !json {
        value["quality"] = quality::describe(stream.header.quality, steps).into();
        value["bpp"] = format!("{:.4}", value["bpp"].as_f64().unwrap_or_default()).into();
        value.as_object_mut().and_then(|fields| fields.remove("quality_percent"));
    }
    let damage = stream.damage.map_or(Ok(()), |damage| {
        let is_cut = matches!(damage, ContainerError::Truncated { .. });
        Err(Failure::from_codec(if is_cut { "incomplete stream" } else { "damaged stream" }, name, &damage.into()))
    });
    Ok((value, damage))
}

/// Prints an object: as JSON with its [`FORMAT`], or one line for each of its values.
pub(crate) fn print(mut value: Value, json: bool) -> Result<(), Failure> {
    if json {
        value["format"] = FORMAT.into();
        return console::stdout(&format!("{value:#}\n"));
    }
    console::stdout(&lines("", &value))
}

/// The members that are printed first, in this order.
const FIRST: [&str; 9] = ["kind", "name", "id", "width", "height", "bytes", "bpp", "quality", "model"];

fn lines(prefix: &str, value: &Value) -> String {
    let rank = |name: &str| FIRST.iter().position(|first| *first == name).unwrap_or(FIRST.len());
    match value {
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.iter().collect();
            fields.sort_by_key(|(name, _)| rank(name));
            let line = |(name, value): (&String, &Value)| {
                lines(&if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") }, value)
            };
            fields.into_iter().map(line).collect()
        }
        Value::Null => String::new(),
        Value::String(text) => console::escaped(format_args!("{prefix}: {text}")) + "\n",
        other => console::escaped(format_args!("{prefix}: {other}")) + "\n",
    }
}

fn describe(stream: &Stream<'_>, len: usize, steps: Option<u8>) -> Value {
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
        "quality_percent": steps.and_then(|steps| quality::percent(header.quality, steps)),
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
