//! Whichever device it is, by the verbs of all: for callers that learn only at run time where a tensor lies, and hold
//! tensors of several devices at once.

use std::convert::Infallible;
use std::ops::Range;

#[cfg(feature = "cuda")]
use super::cuda;
#[cfg(feature = "wgpu")]
use super::wgpu;
use super::{Backend, Device, DeviceError, DeviceFacts, DeviceKind, Hashed, Job, cpu};
use crate::layout::{Buffer, Extent, Layout};

/// Memory of some device.
#[derive(Debug)]
#[non_exhaustive]
pub enum AnyBuffer {
    /// The host's.
    Cpu(cpu::Memory),
    /// That of a GPU through WebGPU.
    #[cfg(feature = "wgpu")]
    Wgpu(<wgpu::Wgpu as Backend>::Buffer),
    /// That of a CUDA device.
    #[cfg(feature = "cuda")]
    Cuda(cuda::Buffer),
}

/// A caller's queue of some device. Only CUDA devices have such.
#[derive(Debug)]
#[non_exhaustive]
pub enum AnyStream {
    /// None.
    None(Infallible),
    /// One of a CUDA device.
    #[cfg(feature = "cuda")]
    Cuda(cuda::Stream),
}

/// A block of host memory of some device.
#[derive(Debug)]
pub struct AnyStaging(Staging);

#[derive(Debug)]
enum Staging {
    Cpu(Vec<u8>),
    #[cfg(feature = "wgpu")]
    Wgpu(<wgpu::Wgpu as Backend>::Staging),
    #[cfg(feature = "cuda")]
    Cuda(cuda::Staging),
}

/// Jobs under way on some device.
#[derive(Debug)]
pub struct AnyTicket(Ticket);

#[derive(Debug)]
enum Ticket {
    Cpu(cpu::Ticket),
    #[cfg(feature = "wgpu")]
    Wgpu(<wgpu::Wgpu as Backend>::Ticket),
    #[cfg(feature = "cuda")]
    Cuda(cuda::Ticket),
}

impl Buffer for AnyBuffer {
    fn size(&self) -> u64 {
        match self {
            Self::Cpu(memory) => memory.size(),
            #[cfg(feature = "wgpu")]
            Self::Wgpu(memory) => memory.size(),
            #[cfg(feature = "cuda")]
            Self::Cuda(memory) => memory.size(),
        }
    }

    fn place(&self) -> u64 {
        match self {
            Self::Cpu(memory) => memory.place(),
            #[cfg(feature = "wgpu")]
            Self::Wgpu(memory) => memory.place(),
            #[cfg(feature = "cuda")]
            Self::Cuda(memory) => memory.place(),
        }
    }
}

impl AnyBuffer {
    fn cpu(&self) -> Option<&cpu::Memory> {
        #[allow(irrefutable_let_patterns, reason = "without GPUs there is no other kind")]
        if let Self::Cpu(memory) = self { Some(memory) } else { None }
    }

    #[cfg(feature = "wgpu")]
    const fn wgpu(&self) -> Option<&<wgpu::Wgpu as Backend>::Buffer> {
        if let Self::Wgpu(memory) = self { Some(memory) } else { None }
    }

    #[cfg(feature = "cuda")]
    const fn cuda(&self) -> Option<&cuda::Buffer> {
        if let Self::Cuda(memory) = self { Some(memory) } else { None }
    }
}

impl AsMut<[u8]> for AnyStaging {
    fn as_mut(&mut self) -> &mut [u8] {
        match &mut self.0 {
            Staging::Cpu(block) => block,
            #[cfg(feature = "wgpu")]
            Staging::Wgpu(block) => block.as_mut(),
            #[cfg(feature = "cuda")]
            Staging::Cuda(block) => block.as_mut(),
        }
    }
}

/// The same jobs, of a device's own memory. `None` if some of it is another kind of device's.
fn of_one<'a, B: Buffer>(
    jobs: &[Job<'a, AnyBuffer>],
    own: impl Fn(&'a AnyBuffer) -> Option<&'a B>,
) -> Option<Vec<Job<'a, B>>> {
    let extent = |extent: &Extent<'a, AnyBuffer>| {
        Some(match *extent {
            Extent::Host(bytes) => Extent::Host(bytes),
            Extent::Range { buffer, at, len } => Extent::Range { buffer: own(buffer)?, at, len },
            Extent::Rows { buffer, at, row, stride, rows } => {
                Extent::Rows { buffer: own(buffer)?, at, row, stride, rows }
            }
        })
    };
    let job = |job: &Job<'a, AnyBuffer>| {
        let extents = job.layout.extents().iter().map(extent).collect::<Option<Vec<_>>>()?;
        // It was checked, with buffers of the same size.
        Some(Job { layout: Layout::new(extents).ok()?, want: job.want })
    };
    jobs.iter().map(job).collect()
}

impl Device {
    /// What is asked of this device concerns memory, a block or a stream of another kind of device.
    fn not_its_own(&self) -> DeviceError {
        let why = "it was asked about memory, a block or a stream of another kind of device".to_owned();
        DeviceError::Refused { device: Device::kind(self), why }
    }
}

/// All that a device can do, but reading files by itself: that is asked of the device in question.
impl Backend for Device {
    type Staging = AnyStaging;
    type Buffer = AnyBuffer;
    type Stream = AnyStream;
    type Ticket = AnyTicket;

    fn kind(&self) -> DeviceKind {
        Self::kind(self)
    }

    fn facts(&self) -> DeviceFacts {
        match self {
            Self::Cpu(cpu) => cpu.facts(),
            #[cfg(feature = "wgpu")]
            Self::Wgpu(wgpu) => wgpu.facts(),
            #[cfg(feature = "cuda")]
            Self::Cuda(cuda) => cuda.facts(),
        }
    }

    fn staging(&self) -> Result<AnyStaging, DeviceError> {
        let staging = match self {
            Self::Cpu(cpu) => Staging::Cpu(cpu.staging()?),
            #[cfg(feature = "wgpu")]
            Self::Wgpu(wgpu) => Staging::Wgpu(wgpu.staging()?),
            #[cfg(feature = "cuda")]
            Self::Cuda(cuda) => Staging::Cuda(cuda.staging()?),
        };
        Ok(AnyStaging(staging))
    }

    fn try_staging(&self) -> Result<Option<AnyStaging>, DeviceError> {
        let staging = match self {
            Self::Cpu(cpu) => cpu.try_staging()?.map(Staging::Cpu),
            #[cfg(feature = "wgpu")]
            Self::Wgpu(wgpu) => wgpu.try_staging()?.map(Staging::Wgpu),
            #[cfg(feature = "cuda")]
            Self::Cuda(cuda) => cuda.try_staging()?.map(Staging::Cuda),
        };
        Ok(staging.map(AnyStaging))
    }

    fn blocks(&self) -> usize {
        match self {
            Self::Cpu(cpu) => cpu.blocks(),
            #[cfg(feature = "wgpu")]
            Self::Wgpu(wgpu) => wgpu.blocks(),
            #[cfg(feature = "cuda")]
            Self::Cuda(cuda) => cuda.blocks(),
        }
    }

    fn alloc(&self, len: u64) -> Result<AnyBuffer, DeviceError> {
        Ok(match self {
            Self::Cpu(cpu) => AnyBuffer::Cpu(cpu.alloc(len)?),
            #[cfg(feature = "wgpu")]
            Self::Wgpu(wgpu) => AnyBuffer::Wgpu(wgpu.alloc(len)?),
            #[cfg(feature = "cuda")]
            Self::Cuda(cuda) => AnyBuffer::Cuda(cuda.alloc(len)?),
        })
    }

    fn upload(&self, block: AnyStaging, len: usize, to: &mut AnyBuffer, at: u64) -> Result<(), DeviceError> {
        match (self, block.0, to) {
            (Self::Cpu(cpu), Staging::Cpu(block), AnyBuffer::Cpu(to)) => cpu.upload(block, len, to, at),
            #[cfg(feature = "wgpu")]
            (Self::Wgpu(wgpu), Staging::Wgpu(block), AnyBuffer::Wgpu(to)) => wgpu.upload(block, len, to, at),
            #[cfg(feature = "cuda")]
            (Self::Cuda(cuda), Staging::Cuda(block), AnyBuffer::Cuda(to)) => cuda.upload(block, len, to, at),
            #[allow(unreachable_patterns, reason = "without GPUs there is no other kind")]
            _ => Err(self.not_its_own()),
        }
    }

    fn submit(&self, jobs: &[Job<'_, AnyBuffer>], after: Option<&AnyStream>) -> Result<AnyTicket, DeviceError> {
        let none = || self.not_its_own();
        let ticket = match (self, after) {
            (Self::Cpu(cpu), None) => Ticket::Cpu(cpu.submit(&of_one(jobs, AnyBuffer::cpu).ok_or_else(none)?, None)?),
            #[cfg(feature = "wgpu")]
            (Self::Wgpu(wgpu), None) => {
                Ticket::Wgpu(wgpu.submit(&of_one(jobs, AnyBuffer::wgpu).ok_or_else(none)?, None)?)
            }
            #[cfg(feature = "cuda")]
            (Self::Cuda(cuda), after) => {
                let after = match after {
                    None => None,
                    Some(AnyStream::Cuda(stream)) => Some(stream),
                    Some(AnyStream::None(none)) => match *none {},
                };
                Ticket::Cuda(cuda.submit(&of_one(jobs, AnyBuffer::cuda).ok_or_else(none)?, after)?)
            }
            // There are no others' streams on it.
            (_, Some(_)) => return Err(none()),
        };
        Ok(AnyTicket(ticket))
    }

    fn wait(&self, ticket: AnyTicket) -> Result<Vec<Hashed>, DeviceError> {
        match (self, ticket.0) {
            (Self::Cpu(cpu), Ticket::Cpu(ticket)) => cpu.wait(ticket),
            #[cfg(feature = "wgpu")]
            (Self::Wgpu(wgpu), Ticket::Wgpu(ticket)) => wgpu.wait(ticket),
            #[cfg(feature = "cuda")]
            (Self::Cuda(cuda), Ticket::Cuda(ticket)) => cuda.wait(ticket),
            #[allow(unreachable_patterns, reason = "without GPUs there is no other kind")]
            _ => Err(self.not_its_own()),
        }
    }

    fn download(&self, from: &AnyBuffer, range: Range<u64>) -> Result<Vec<u8>, DeviceError> {
        match (self, from) {
            (Self::Cpu(cpu), AnyBuffer::Cpu(from)) => cpu.download(from, range),
            #[cfg(feature = "wgpu")]
            (Self::Wgpu(wgpu), AnyBuffer::Wgpu(from)) => wgpu.download(from, range),
            #[cfg(feature = "cuda")]
            (Self::Cuda(cuda), AnyBuffer::Cuda(from)) => cuda.download(from, range),
            #[allow(unreachable_patterns, reason = "without GPUs there is no other kind")]
            _ => Err(self.not_its_own()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Want;

    #[test]
    fn the_device_behind_it_does_the_work() {
        let device = Device::open(DeviceKind::Cpu).unwrap();
        let text: Vec<u8> = (0..5000_u32).map(|i| (i.wrapping_mul(0x9E37_79B9) >> 13) as u8).collect();
        let mut buffer = device.alloc(5000).unwrap();
        let mut block = device.try_staging().unwrap().unwrap();
        block.as_mut()[..5000].copy_from_slice(&text);
        device.upload(block, 5000, &mut buffer, 0).unwrap();
        assert_eq!((buffer.size(), device.download(&buffer, 7..90).unwrap()), (5000, text[7..90].to_vec()));
        let buffer = &buffer;
        let extents = vec![
            Extent::Host(b"head"),
            Extent::Range { buffer, at: 1, len: 2000 },
            Extent::Rows { buffer, at: 3, row: 10, stride: 100, rows: 40 },
        ];
        let bytes: Vec<u8> = b"head".iter().chain(&text[1..2001]).copied().collect();
        let bytes = [bytes, (0..40).flat_map(|row| &text[3 + row * 100..][..10]).copied().collect()].concat();
        let job = Job { layout: Layout::new(extents).unwrap(), want: Want::Root };
        assert_eq!(device.hash(&[job]).unwrap(), [Want::Root.of(&bytes)]);
        assert_eq!(Backend::kind(&device), DeviceKind::Cpu);
    }
}
