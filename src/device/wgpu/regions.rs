//! From layouts to the planner's texts: which buffer holds each piece of a string, and what the host's bytes become.

use std::collections::HashMap;

use super::super::plan::{Region, Rows, Text};
use super::super::{DeviceError, Job};
use super::memory::DeviceMemory;
use super::windows::reach;
use super::{Limits, Wgpu};
use crate::layout::Extent;

/// Host extents begin at multiples of this in the inbox, so that most need no shift.
const ALIGN: u64 = 16;

/// The buffers that some jobs read, numbered.
#[derive(Debug, Default)]
pub(super) struct Spaces {
    pub(super) buffers: Vec<wgpu::Buffer>,
    numbers: HashMap<wgpu::Buffer, u32>,
}

impl Spaces {
    fn number(&mut self, buffer: &wgpu::Buffer) -> u32 {
        *self.numbers.entry(buffer.clone()).or_insert_with(|| {
            self.buffers.push(buffer.clone());
            self.buffers.len() as u32 - 1
        })
    }
}

/// What the planner is told of the jobs. Bytes of the host are copied into an inbox on the device.
///
/// # Errors
/// [`DeviceError::OutOfMemory`] if the inbox is too large; another if the device has failed or is not the memory's.
pub(super) fn texts(wgpu: &Wgpu, jobs: &[Job<'_, DeviceMemory>]) -> Result<(Vec<Text>, Spaces), DeviceError> {
    let (mut hosted, mut end) = (Vec::new(), 0_u64);
    for extent in jobs.iter().flat_map(|job| job.layout.extents()) {
        match extent {
            Extent::Host(bytes) => {
                hosted.push((end, *bytes));
                end = (end + bytes.len() as u64).next_multiple_of(ALIGN);
            }
            Extent::Range { buffer, .. } | Extent::Rows { buffer, .. } => wgpu.owns(buffer)?,
        }
    }
    let inbox = if end > 0 { Some(wgpu.inbox(end, &hosted)?) } else { None };
    let mut places = hosted.iter().map(|(at, _)| *at);
    let mut spaces = Spaces::default();
    let texts = jobs.iter().map(|job| {
        let mut regions = Regions { list: Vec::new(), spaces: &mut spaces, limits: &wgpu.limits };
        for extent in job.layout.extents() {
            match *extent {
                Extent::Host(bytes) => {
                    if let (Some(inbox), Some(at)) = (&inbox, places.next()) {
                        regions.range(inbox, at, bytes.len() as u64);
                    }
                }
                Extent::Range { buffer, at, len } => regions.range(buffer, at, len),
                Extent::Rows { buffer, at, row, stride, rows } => {
                    regions.rows(buffer, at, Rows { row, pitch: stride }, rows);
                }
            }
        }
        Text { regions: regions.list, want: job.want }
    });
    Ok((texts.collect(), spaces))
}

struct Regions<'a> {
    list: Vec<Region>,
    spaces: &'a mut Spaces,
    limits: &'a Limits,
}

impl Regions<'_> {
    fn push(&mut self, memory: &DeviceMemory, at: u64, len: u64, rows: Option<Rows>) {
        let buffer = &memory.parts[(at / memory.part) as usize];
        let space = self.spaces.number(buffer);
        self.list.push(Region { space, at: at % memory.part, len, rows, readable: 0..buffer.size() });
    }

    /// Consecutive bytes, cut where a part of the memory ends.
    fn range(&mut self, memory: &DeviceMemory, mut at: u64, mut len: u64) {
        while len > 0 {
            let here = len.min(memory.part - at % memory.part);
            self.push(memory, at, here, None);
            at += here;
            len -= here;
        }
    }

    /// Rows: as many at once as lie in one part of the memory, and one by one those that do not, or of which a chunk could
    /// be longer than a window. There are few of these, since their pitch is a good part of a window.
    fn rows(&mut self, memory: &DeviceMemory, at: u64, rows: Rows, count: u64) {
        let Rows { row, pitch } = rows;
        if row == 0 || count == 0 {
            return;
        }
        if count == 1 || pitch == row {
            return self.range(memory, at, row * count);
        }
        let far = row.is_multiple_of(super::SEGMENT) && reach(row, pitch) > self.limits.sight();
        let mut done = 0;
        while done < count {
            let start = at + done * pitch;
            let room = memory.part - start % memory.part;
            if far || room < row {
                self.range(memory, start, row);
                done += 1;
            } else {
                let here = ((room - row) / pitch + 1).min(count - done);
                self.push(memory, start, here * row, (here > 1).then_some(rows));
                done += here;
            }
        }
    }
}
