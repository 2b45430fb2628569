//! The cases that an instrumented decoding has met.

use std::collections::{BTreeMap, BTreeSet};

use mlic_core::fixed::divide;

/// The cases that have been reached, by their names in the list.
#[derive(Debug, Clone, Default)]
pub struct Log {
    marks: BTreeSet<String>,
    regions: BTreeMap<&'static str, Vec<bool>>,
}

impl Log {
    /// Notes that a case has occurred.
    pub fn mark(&mut self, name: impl Into<String>) {
        self.marks.insert(name.into());
    }

    /// Notes the entry at `index` of a table of `len` entries.
    pub fn region(&mut self, table: &'static str, len: usize, index: usize) {
        let entries = self.regions.entry(table).or_insert_with(|| vec![false; len]);
        if let Some(entry) = entries.get_mut(index) {
            *entry = true;
        }
    }

    /// Notes what a place has met.
    pub fn place(&mut self, place: Place<'_>) {
        let Place { name, clamped, ties } = place;
        for (met, side) in clamped.into_iter().zip(["above", "below"]) {
            if met {
                self.marks.insert(format!("{name} saturates {side}"));
            }
        }
        for (met, sign) in ties.into_iter().zip(["positive", "negative"]) {
            if met {
                self.marks.insert(format!("{name} rounds a {sign} tie"));
            }
        }
    }

    /// Returns the names of all cases that have been reached.
    #[must_use]
    pub fn names(&self) -> BTreeSet<String> {
        let entries = |(table, met): (&&'static str, &Vec<bool>)| {
            let reached = met.iter().enumerate().filter(|(_, met)| **met);
            reached.map(|(index, _)| format!("{table} {index}")).collect::<Vec<_>>()
        };
        self.marks.iter().cloned().chain(self.regions.iter().flat_map(entries)).collect()
    }
}

/// A place in the arithmetic where numbers are rounded or limited, and what it has met.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    name: &'a str,
    clamped: [bool; 2],
    ties: [bool; 2],
}

impl<'a> Place<'a> {
    /// Makes a place that has met nothing.
    #[must_use]
    pub const fn new(name: &'a str) -> Self {
        Self { name, clamped: [false; 2], ties: [false; 2] }
    }

    /// Rounds (SPEC 3.1), and notes ties.
    pub fn round(&mut self, v: i64, shift: u32) -> i64 {
        let half = if shift == 0 { 0 } else { 1 << (shift - 1) };
        if shift > 0 && v & ((1 << shift) - 1) == half {
            self.ties[usize::from(v < 0)] = true;
        }
        (v + half) >> shift
    }

    /// Divides (SPEC 3.3), and notes ties.
    pub fn divide(&mut self, n: i64, d: i64) -> i64 {
        if 2 * n.rem_euclid(d) == d {
            self.ties[usize::from(n < 0)] = true;
        }
        divide(n, d)
    }

    /// Saturates (SPEC 3.2), and notes the limits that are exceeded.
    pub fn saturate(&mut self, v: i64, max: i32) -> i32 {
        let limited = v.clamp(-i64::from(max), max.into());
        if limited != v {
            self.clamped[usize::from(v < 0)] = true;
        }
        limited as i32
    }
}
