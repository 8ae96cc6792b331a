//! The native part of the Python package `tensorseal`. It converts, and decides nothing: what is checked, and how, is in
//! the library.

mod dlpack;
mod error;
mod export;
mod loader;
mod memory;
mod progress;
mod seal;
mod signed;
mod tensors;
mod verbs;
mod who;
mod writer;

use pyo3::prelude::*;

/// `tensorseal._native`: private to the package, whose modules give it a face.
#[pymodule]
mod _native {
    use super::*;

    #[pymodule_export]
    use super::loader::{LoadedModel, Tensor, load, model_of};
    #[pymodule_export]
    use super::seal::{Seal, exposition};
    #[pymodule_export]
    use super::signed::{Measured, Signed, TensorManifest, TensorRecord, cover};
    #[pymodule_export]
    use super::tensors::{Lent, digest_parts, digests, lend, lend_at};
    #[pymodule_export]
    use super::verbs::{digest, sign, verify};
    #[pymodule_export]
    use super::who::{Signer, Who};
    #[pymodule_export]
    use super::writer::{Finished, Writer, Written, sign_written, sweep, tiles, withdraw};

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
