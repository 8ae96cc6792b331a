//! Seals over named tensors.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pyo3::prelude::*;
use pyo3::types::PyDict;
use tensorseal::device::AnyBuffer;
use tensorseal::seal::{self, Budget, Region, SealOptions};
use tensorseal::tree::GroupSize;

use crate::error::usage;
use crate::memory::{Memory, Unusable};
use crate::tensors::{Lent, taken};

/// Named memory, and what was in it. It holds no memory: whoever asks, shows it again.
#[pyclass(frozen, module = "tensorseal._native")]
pub(crate) struct Seal {
    name: String,
    seal: Mutex<seal::Seal>,
}

/// Seconds since 1970, as `time.time()` gives them.
pub(crate) fn seconds(at: SystemTime) -> f64 {
    at.duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

fn regions(memory: &Memory) -> Result<Vec<Region<'_, AnyBuffer>>, Unusable> {
    let mut regions = Vec::with_capacity(memory.tensors.len());
    for (index, (taken, device, _)) in memory.tensors.iter().enumerate() {
        regions.push(Region { name: &taken.name, device: *device, layout: memory.layout(index)? });
    }
    Ok(regions)
}

impl Seal {
    fn lock(&self) -> MutexGuard<'_, seal::Seal> {
        self.seal.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something of the seal, which another thread may be busy with.
    fn ask<T: Send>(&self, py: Python<'_>, what: impl FnOnce(&seal::Seal) -> T + Send) -> T {
        py.detach(|| what(&self.lock()))
    }
}

#[pymethods]
impl Seal {
    /// Measures tensors, whatever is in them, and keeps what was found.
    #[staticmethod]
    #[pyo3(signature = (tensors, *, name, group))]
    fn take(py: Python<'_>, tensors: Vec<Bound<'_, Lent>>, name: String, group: Option<u64>) -> PyResult<Self> {
        let mut options = SealOptions { name: name.clone(), ..SealOptions::default() };
        if let Some(bytes) = group {
            options.group = GroupSize::at_most(bytes);
        }
        let tensors = taken(&tensors);
        let work = || -> Result<seal::Seal, Unusable> {
            let memory = Memory::new(&tensors)?;
            Ok(seal::Seal::take(&memory.devices(), &regions(&memory)?, options)?)
        };
        let seal = py.detach(work).map_err(|error| error.to_python(py))?;
        Ok(Self { name, seal: Mutex::new(seal) })
    }

    /// Measures them again, or as much of them as fits into so many seconds, or bytes: the fields of what came of it.
    #[pyo3(signature = (tensors, *, seconds, bytes))]
    fn reverify<'py>(
        &self,
        py: Python<'py>,
        tensors: Vec<Bound<'py, Lent>>,
        seconds: Option<f64>,
        bytes: Option<u64>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let budget = match (seconds, bytes) {
            (None, None) => Budget::All,
            (None, Some(bytes)) => Budget::Bytes(bytes),
            (Some(seconds), None) => match Duration::try_from_secs_f64(seconds) {
                Ok(time) => Budget::Time(time),
                Err(_) => return Err(usage(py, format!("{seconds} is no number of seconds above 0"))),
            },
            (Some(_), Some(_)) => return Err(usage(py, "a budget is of seconds or of bytes, not both")),
        };
        let tensors = taken(&tensors);
        let work = || -> Result<seal::Unchanged, Unusable> {
            let memory = Memory::new(&tensors)?;
            Ok(self.lock().reverify(&memory.devices(), &regions(&memory)?, budget)?)
        };
        let unchanged = py.detach(work).map_err(|error| error.to_python(py))?;
        let fields = PyDict::new(py);
        fields.set_item("seal", &unchanged.seal)?;
        fields.set_item("since", self::seconds(unchanged.since))?;
        fields.set_item("at", self::seconds(unchanged.at))?;
        fields.set_item("bytes", unchanged.bytes)?;
        fields.set_item("total", unchanged.total)?;
        fields.set_item("oldest", unchanged.oldest.as_secs_f64())?;
        fields.set_item("text", unchanged.to_string())?;
        Ok(fields)
    }

    /// Takes the seal anew, over whatever is in these tensors now.
    fn reseal(&self, py: Python<'_>, tensors: Vec<Bound<'_, Lent>>) -> PyResult<()> {
        let tensors = taken(&tensors);
        let work = || -> Result<(), Unusable> {
            let memory = Memory::new(&tensors)?;
            Ok(self.lock().reseal(&memory.devices(), &regions(&memory)?)?)
        };
        py.detach(work).map_err(|error| error.to_python(py))
    }

    #[getter]
    fn name(&self) -> &str {
        &self.name
    }

    /// When it was taken, or taken anew.
    #[getter]
    fn since(&self, py: Python<'_>) -> f64 {
        self.ask(py, |seal| seconds(seal.since()))
    }

    /// What was found, if it is broken.
    #[getter]
    fn broken(&self, py: Python<'_>) -> Option<String> {
        self.ask(py, |seal| seal.broken().map(ToString::to_string))
    }

    /// Bytes sealed.
    #[getter]
    fn total(&self, py: Python<'_>) -> u64 {
        self.ask(py, seal::Seal::total)
    }

    /// How many seconds ago the byte was last found unchanged of which that is the longest.
    #[getter]
    fn oldest(&self, py: Python<'_>) -> f64 {
        self.ask(py, |seal| seal.oldest().as_secs_f64())
    }

    /// For all bytes: name, first, one past the last, and how many seconds ago they were last found unchanged.
    fn coverage(&self, py: Python<'_>) -> Vec<(String, u64, u64, f64)> {
        let coverage = self.ask(py, seal::Seal::coverage);
        coverage.into_iter().map(|of| (of.name, of.range.start, of.range.end, of.age.as_secs_f64())).collect()
    }
}

/// Counters and ages of seals in the text format of Prometheus, by their names.
#[pyfunction]
pub(crate) fn exposition(py: Python<'_>, seals: Vec<Bound<'_, Seal>>) -> PyResult<String> {
    let mut seals: Vec<&Seal> = seals.iter().map(Bound::get).collect();
    // Always in one order, so that two who ask do not wait for each other.
    seals.sort_by_key(|seal| &seal.name);
    if let Some(pair) = seals.windows(2).find(|pair| pair[0].name == pair[1].name) {
        let why = format!("two seals are called {:?}, and metrics tell them apart by their names", pair[0].name);
        return Err(usage(py, why));
    }
    Ok(py.detach(|| {
        let locked: Vec<MutexGuard<'_, seal::Seal>> = seals.iter().map(|seal| seal.lock()).collect();
        seal::exposition(locked.iter().map(|seal| &**seal))
    }))
}
