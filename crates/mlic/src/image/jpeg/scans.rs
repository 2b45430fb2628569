//! A walk over the blocks of every scan (ITU-T T.81, annexes F and G), which computes no sample: parsers that show what they can of a damaged file do not
//! say that it is.

use mlic_core::memory;

use super::bits::{Bits, Flaw, Table};
use super::{FORMAT, Segment, segments};
use crate::image::ImageError;

/// Most scans. Those of progressive files can be far shorter than the work that they make.
const MAX_SCANS: usize = 100;
/// Most components of a frame.
const MAX_COMPONENTS: usize = 4;

/// Refuses a file whose scans are not what a frame of this size has, code by code.
///
/// # Errors
/// [`ImageError::Damaged`], [`ImageError::Memory`].
pub(super) fn verify(bytes: &[u8], width: u32, height: u32) -> Result<(), ImageError> {
    let is_of_video = segments(bytes).any(|s| s.marker == 0xe0 && s.body.starts_with(b"AVI1"));
    if is_of_video && !segments(bytes).any(|s| s.marker == 0xc4) {
        // A frame of a video, whose tables are known to the parser.
        return Ok(());
    }
    let damaged = |what: String| ImageError::Damaged { format: FORMAT, source: what.into() };
    let (mut walk, mut scans) = (Walk::default(), 0);
    for segment in segments(bytes) {
        match segment.marker {
            0xc4 => walk.tables(segment.body).ok_or_else(|| damaged("its tables of codes are damaged".into()))?,
            0xc0..=0xc2 => {
                let frame = Frame::read(&segment).filter(|frame| (frame.width, frame.height) == (width, height));
                walk.frame = Some(frame.ok_or_else(|| damaged("its frame is damaged, or there are two".into()))?);
            }
            0xdd => walk.interval = segment.body.first_chunk().map_or(0, |b| u64::from(u16::from_be_bytes(*b))),
            0xda => {
                scans += 1;
                let header = walk.header(segment.body).filter(|_| scans <= MAX_SCANS);
                let header = header.ok_or_else(|| damaged(format!("scan {scans} is none that the frame can have")))?;
                walk.allocate()?;
                let total = walk.units(&header);
                let walked = walk.scan(&header, total, segment.data);
                walked.map_err(|(at, flaw)| damaged(format!("scan {scans}, block {at} of {total}: {flaw}")))?;
            }
            _ => {}
        }
    }
    let is_whole = walk.frame.is_some_and(|frame| frame.components.iter().all(Component::is_whole));
    if is_whole { Ok(()) } else { Err(damaged("scans are missing".into())) }
}

/// What a file has said so far.
#[derive(Debug, Default)]
struct Walk {
    frame: Option<Frame>,
    /// Tables of DC and of AC.
    tables: [[Option<Table>; 4]; 2],
    /// Units between restart markers; 0: there are none.
    interval: u64,
}

#[derive(Debug)]
struct Frame {
    is_progressive: bool,
    width: u32,
    height: u32,
    /// Units of interleaved scans in a row, and rows of them.
    units: [u64; 2],
    components: Vec<Component>,
}

#[derive(Debug)]
struct Component {
    id: u8,
    /// Columns and rows of blocks in an interleaved unit.
    sampling: [u64; 2],
    /// Columns and rows of blocks that have samples of the picture.
    blocks: [u64; 2],
    /// Coefficients that a scan has coded, by their place in the zigzag.
    begun: u64,
    /// Of these, those of which lower bits are to come.
    unfinished: u64,
    /// Coefficients of each block that are not zero, where the frame is progressive.
    nonzero: Vec<u64>,
}

/// Of a scan.
#[derive(Debug)]
struct Header {
    /// Of each component: its index, and the tables of DC and AC.
    components: Vec<(usize, [usize; 2])>,
    /// First and last coefficient in the zigzag.
    band: [u32; 2],
    /// There was a scan of higher bits.
    is_refinement: bool,
    /// Lower bits are to come.
    is_coarse: bool,
}

impl Frame {
    fn read(segment: &Segment<'_>) -> Option<Self> {
        let (&[_, y1, y0, x1, x0, count], rest) = segment.body.split_first_chunk()?;
        let (width, height) = (u32::from(u16::from_be_bytes([x1, x0])), u32::from(u16::from_be_bytes([y1, y0])));
        let all = rest.as_chunks::<3>().0.get(..count.into())?;
        let sampling = |of: u8| [of >> 4, of & 15].map(u64::from);
        let sides = |at: usize| all.iter().map(move |[_, of, _]| sampling(*of)[at]);
        if all.len() > MAX_COMPONENTS || [0, 1].into_iter().flat_map(sides).any(|side| !(1..=4).contains(&side)) {
            return None;
        }
        let most = [sides(0).max()?, sides(1).max()?];
        let size = [u64::from(width), u64::from(height)];
        let component = |[id, of, _]: &[u8; 3]| {
            let sampling = sampling(*of);
            let blocks = [0, 1].map(|i| (size[i] * sampling[i]).div_ceil(8 * most[i]));
            Component { id: *id, sampling, blocks, begun: 0, unfinished: 0, nonzero: Vec::new() }
        };
        let units = [0, 1].map(|i| size[i].div_ceil(8 * most[i]));
        let components = all.iter().map(component).collect();
        Some(Self { is_progressive: segment.marker == 0xc2, width, height, units, components })
    }
}

impl Component {
    fn is_whole(&self) -> bool {
        self.begun & 1 == 1 && self.unfinished == 0
    }
}

impl Walk {
    /// Takes the tables of a segment.
    fn tables(&mut self, mut body: &[u8]) -> Option<()> {
        while let Some((kind, rest)) = body.split_first() {
            let (table, rest) = Table::read(rest)?;
            *self.tables.get_mut(usize::from(kind >> 4))?.get_mut(usize::from(kind & 15))? = Some(table);
            body = rest;
        }
        Some(())
    }

    /// The header of a scan, if the frame can have it.
    fn header(&self, body: &[u8]) -> Option<Header> {
        let frame = self.frame.as_ref()?;
        let (count, rest) = body.split_first()?;
        let (chosen, rest) = rest.split_at_checked(2 * usize::from(*count))?;
        let component = |[id, tables]: &[u8; 2]| {
            let index = frame.components.iter().position(|component| component.id == *id)?;
            Some((index, [tables >> 4, tables & 15].map(usize::from)))
        };
        let components: Vec<_> = chosen.as_chunks::<2>().0.iter().map(component).collect::<Option<_>>()?;
        let [first, last, approximation] = *rest.first_chunk()?;
        let (band, is_refinement, is_coarse) = match frame.is_progressive {
            true => ([first, last].map(u32::from), approximation >> 4 > 0, approximation & 15 > 0),
            false => ([0, 63], false, false),
        };
        let is_possible = match band {
            _ if !frame.is_progressive => true,
            [0, last] => last == 0,
            [first, last] => first <= last && last <= 63 && components.len() == 1,
        };
        let is_possible = is_possible && (1..=MAX_COMPONENTS).contains(&components.len());
        is_possible.then_some(Header { components, band, is_refinement, is_coarse })
    }

    /// Room for what refinements have to know.
    fn allocate(&mut self) -> Result<(), ImageError> {
        let Some(frame) = self.frame.as_mut().filter(|frame| frame.is_progressive) else { return Ok(()) };
        for component in frame.components.iter_mut().filter(|component| component.nonzero.is_empty()) {
            let all = frame.units[0] * frame.units[1] * component.sampling[0] * component.sampling[1];
            component.nonzero = memory::zeros(usize::try_from(all).unwrap_or(usize::MAX))?;
        }
        Ok(())
    }

    /// How many units a scan has: blocks, if it is of one component.
    fn units(&self, header: &Header) -> u64 {
        let Some(frame) = &self.frame else { return 0 };
        let [columns, rows] = match header.components[..] {
            [(index, _)] => frame.components.get(index).map_or([0; 2], |component| component.blocks),
            _ => frame.units,
        };
        columns * rows
    }

    /// Goes through a scan. A flaw comes with the unit that has it.
    fn scan(&mut self, header: &Header, total: u64, data: &[u8]) -> Result<(), (u64, Flaw)> {
        let Some(frame) = &mut self.frame else { return Ok(()) };
        let [dc, ac] = &self.tables;
        let is_alone = header.components.len() == 1;
        let (mut bits, mut run) = (Bits::new(data), 0);
        for unit in 0..total {
            if self.interval > 0 && unit > 0 && unit % self.interval == 0 {
                bits.restart(((unit / self.interval - 1) % 8) as u8).map_err(|flaw| (unit, flaw))?;
                run = 0;
            }
            for (index, tables) in &header.components {
                let Some(component) = frame.components.get_mut(*index) else { continue };
                let [columns, rows] = if is_alone { [1; 2] } else { component.sampling };
                // Where the unit begins, in blocks of the component.
                let across = if is_alone { component.blocks[0] } else { frame.units[0] };
                let (left, top, stride) = (unit % across * columns, unit / across * rows, frame.units[0] * component.sampling[0]);
                let tables = [dc.get(tables[0]), ac.get(tables[1])].map(|table| table.and_then(Option::as_ref));
                for (row, column) in (0..rows).flat_map(|row| (0..columns).map(move |column| (row, column))) {
                    let at = (top + row) * stride + left + column;
                    let mut unseen = 0;
                    let nonzero = component.nonzero.get_mut(at as usize).unwrap_or(&mut unseen);
                    block(&mut bits, header, tables, frame.is_progressive, &mut run, nonzero).map_err(|flaw| (unit, flaw))?;
                }
            }
        }
        bits.end().map_err(|flaw| (total, flaw))?;
        let band = band_mask(header.band);
        for (index, _) in &header.components {
            let Some(component) = frame.components.get_mut(*index) else { continue };
            component.begun |= band;
            component.unfinished = if header.is_coarse { component.unfinished | band } else { component.unfinished & !band };
        }
        Ok(())
    }
}

/// Bits of these coefficients.
fn band_mask([first, last]: [u32; 2]) -> u64 {
    u64::MAX << first & u64::MAX >> (63 - last)
}

/// Goes through a block. `run`: blocks from here on whose band is over.
fn block(
    bits: &mut Bits<'_>,
    header: &Header,
    [dc, ac]: [Option<&Table>; 2],
    is_progressive: bool,
    run: &mut u32,
    nonzero: &mut u64,
) -> Result<(), Flaw> {
    let [mut first, last] = header.band;
    if first == 0 && header.is_refinement {
        return bits.skip(1);
    }
    if first == 0 {
        let len = bits.symbol(dc.ok_or(Flaw::Code)?)?;
        bits.take(len)?;
        first = 1;
    }
    if last == 0 {
        return Ok(());
    }
    let ac = ac.ok_or(Flaw::Code)?;
    if header.is_refinement {
        return refinement(bits, ac, [first, last], run, nonzero);
    }
    if *run > 0 {
        *run -= 1;
        return Ok(());
    }
    while first <= last {
        let symbol = bits.symbol(ac)?;
        let (zeros, len) = (symbol >> 4, symbol & 15);
        match (zeros, len) {
            (15, 0) => {}
            (_, 0) if zeros == 0 || is_progressive => {
                *run = (1 << zeros) + bits.take(zeros)? - 1;
                return Ok(());
            }
            (_, 0) => return Err(Flaw::Code),
            _ => bits.skip(len.into())?,
        }
        first += u32::from(zeros);
        if first > last {
            return Err(Flaw::Code);
        }
        *nonzero |= u64::from(len > 0) << first;
        first += 1;
    }
    Ok(())
}

/// Goes through a block in a scan of one bit more (T.81, G.1.2.3): a bit for each coefficient that is not zero yet, and runs between those that become so.
fn refinement(
    bits: &mut Bits<'_>,
    ac: &Table,
    [mut first, last]: [u32; 2],
    run: &mut u32,
    nonzero: &mut u64,
) -> Result<(), Flaw> {
    while *run == 0 && first <= last {
        let symbol = bits.symbol(ac)?;
        let (mut zeros, len) = (symbol >> 4, symbol & 15);
        match len {
            0 if zeros < 15 => {
                *run = (1 << zeros) + bits.take(zeros)?;
                break;
            }
            0 | 1 => bits.skip(len.into())?,
            _ => return Err(Flaw::Code),
        }
        while *nonzero >> first & 1 == 1 || zeros > 0 {
            if *nonzero >> first & 1 == 1 {
                bits.skip(1)?
            } else {
                zeros -= 1
            }
            first += 1;
            if first > last {
                return Err(Flaw::Code);
            }
        }
        *nonzero |= u64::from(len) << first;
        first += 1;
    }
    if *run > 0 {
        *run -= 1;
        if first <= last {
            bits.skip((*nonzero & band_mask([first, last])).count_ones())?;
        }
    }
    Ok(())
}
