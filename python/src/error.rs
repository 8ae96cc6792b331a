//! Errors of the library as exceptions of `tensorseal.errors`.

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};
use serde_json::{Map, Value};
use tensorseal::Error;
use tensorseal::report::json;

/// The exception for what came of a call: `VerifyError` if the answer is no, `UsageError` for what makes no sense to ask,
/// `NoAnswerError` for everything else.
pub(crate) fn to_python(py: Python<'_>, error: &Error) -> PyErr {
    let mut report = Map::new();
    json::insert(&mut report, json::error(error));
    raised(py, error, &report)
}

/// The same, with the whole report of the call.
pub(crate) fn raised(py: Python<'_>, error: &Error, report: &Map<String, Value>) -> PyErr {
    use tensorseal::error::Failure::{No, NoAnswer, Usage};
    let class = match error.failure() {
        No => "VerifyError",
        Usage => "UsageError",
        NoAnswer => "NoAnswerError",
    };
    let made = object(py, report).and_then(|report| class_of(py, class)?.call_method1("_of_report", (report,)));
    // An error on the way, such as having no memory, is an exception as well.
    made.map_or_else(|failed| failed, PyErr::from_value)
}

/// An exception that no error of the library stands for: what Python passed makes no sense.
pub(crate) fn usage(py: Python<'_>, message: impl Into<String>) -> PyErr {
    made(py, "UsageError", "usage", message.into())
}

/// There is no answer, for a reason of the bindings' own.
pub(crate) fn no_answer(py: Python<'_>, kind: &str, message: impl Into<String>) -> PyErr {
    made(py, "NoAnswerError", kind, message.into())
}

fn made(py: Python<'_>, class: &str, kind: &str, message: String) -> PyErr {
    let make = || {
        let named = PyDict::new(py);
        named.set_item("kind", kind)?;
        class_of(py, class)?.call((message,), Some(&named))
    };
    make().map_or_else(|failed| failed, PyErr::from_value)
}

fn class_of<'py>(py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
    py.import("tensorseal.errors")?.getattr(name)
}

/// A JSON object as a `dict`.
pub(crate) fn object<'py>(py: Python<'py>, fields: &Map<String, Value>) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    for (name, value) in fields {
        dict.set_item(name, value_of(py, value)?)?;
    }
    Ok(dict)
}

/// A JSON value as what `json.loads` makes of it.
pub(crate) fn value_of<'py>(py: Python<'py>, value: &Value) -> PyResult<Bound<'py, PyAny>> {
    Ok(match value {
        Value::Null => py.None().into_bound(py),
        Value::Bool(value) => value.into_pyobject(py)?.to_owned().into_any(),
        Value::Number(number) => match (number.as_u64(), number.as_i64()) {
            (Some(number), _) => number.into_pyobject(py)?.into_any(),
            (None, Some(number)) => number.into_pyobject(py)?.into_any(),
            (None, None) => number.as_f64().into_pyobject(py)?,
        },
        Value::String(text) => text.into_pyobject(py)?.into_any(),
        Value::Array(all) => {
            let list = PyList::empty(py);
            for one in all {
                list.append(value_of(py, one)?)?;
            }
            list.into_any()
        }
        Value::Object(fields) => object(py, fields)?.into_any(),
    })
}
