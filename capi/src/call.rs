//! What every call begins and ends with: no panic gets out, and whoever called is told how it ended, and why.

use std::any::Any;
use std::cell::RefCell;
use std::ffi::{CString, c_char};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

use serde_json::{Map, Value, json};
use tensorseal::Error;
use tensorseal::device::DeviceError;
use tensorseal::error::Failure;
use tensorseal::report::json::{Head, error, insert};

/// How a call ended: `tensorseal_status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
pub(crate) enum Status {
    Yes = 0,
    No = 1,
    Usage = 2,
    NoAnswer = 3,
}

impl Status {
    const fn verdict(self) -> &'static str {
        match self {
            Self::Yes => "yes",
            Self::No => "no",
            Self::Usage | Self::NoAnswer => "none",
        }
    }
}

/// Why a call did not end in a yes.
#[derive(Debug)]
pub(crate) enum Fault {
    /// It makes no sense.
    Usage(String),
    /// What the library says.
    Failed(Error),
    /// Something else keeps the answer from being had: its kind, as reports have it, and why.
    NoAnswer(&'static str, String),
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl From<DeviceError> for Fault {
    fn from(error: DeviceError) -> Self {
        Self::Failed(error.into())
    }
}

impl Fault {
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::Usage(message.into())
    }

    fn of_panic(panic: &(dyn Any + Send)) -> Self {
        let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
        let text = text.unwrap_or("without a word");
        let why = format!("tensorseal failed in itself ({text}): this is a defect of it, please report it");
        Self::NoAnswer("defect", why)
    }

    fn status(&self) -> Status {
        match self {
            Self::Usage(_) => Status::Usage,
            Self::Failed(error) => match error.failure() {
                Failure::No => Status::No,
                Failure::Usage => Status::Usage,
                Failure::NoAnswer => Status::NoAnswer,
            },
            Self::NoAnswer(..) => Status::NoAnswer,
        }
    }

    fn message(&self) -> String {
        match self {
            Self::Usage(message) | Self::NoAnswer(_, message) => message.clone(),
            Self::Failed(error) => error.to_string(),
        }
    }

    /// For the report.
    fn fields(&self) -> Value {
        match self {
            Self::Usage(message) => json!({"error": {"kind": "usage", "message": message}}),
            Self::NoAnswer(kind, message) => json!({"error": {"kind": kind, "message": message}}),
            Self::Failed(failed) => error(failed),
        }
    }
}

thread_local! {
    /// Why the last call of this thread did not end in a yes.
    static MESSAGE: RefCell<CString> = RefCell::default();
}

/// What `tensorseal_message` returns.
pub(crate) fn message() -> *const c_char {
    // While a thread ends there is no message any more.
    MESSAGE.try_with(|message| message.borrow().as_ptr()).unwrap_or(c"".as_ptr())
}

fn keep(message: &str) {
    // A name in a message may hold a NUL, with which the text would end for whoever reads it.
    let message = CString::new(message.replace('\0', "\\0")).unwrap_or_default();
    let _ = MESSAGE.try_with(|kept| kept.replace(message));
}

fn caught<T>(run: impl FnOnce() -> Result<T, Fault>) -> Result<T, Fault> {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| Err(Fault::of_panic(&*panic)))
}

/// Runs a call that has no report.
pub(crate) fn call<T>(run: impl FnOnce() -> Result<T, Fault>) -> (Status, Option<T>) {
    match caught(run) {
        Ok(value) => {
            keep("");
            (Status::Yes, Some(value))
        }
        Err(fault) => {
            keep(&fault.message());
            (fault.status(), None)
        }
    }
}

/// What a verb was asked, as far as that is known.
#[derive(Debug, Default)]
pub(crate) struct About {
    pub(crate) model: Option<PathBuf>,
    /// The first of several.
    pub(crate) signature: Option<PathBuf>,
}

/// What came of a verb.
pub(crate) struct Told<T> {
    pub(crate) status: Status,
    pub(crate) value: Option<T>,
    /// JSON; `None` if not even that could be made.
    pub(crate) report: Option<CString>,
}

/// Runs a verb that has a report.
pub(crate) fn verb<T>(command: &str, run: impl FnOnce(&mut About) -> Result<(T, Value), Fault>) -> Told<T> {
    let mut about = About::default();
    let (status, value, fields) = match caught(|| run(&mut about)) {
        Ok((value, fields)) => {
            keep("");
            (Status::Yes, Some(value), Ok(fields))
        }
        Err(fault) => {
            keep(&fault.message());
            (fault.status(), None, Err(fault))
        }
    };
    let report = || {
        let mut report: Map<String, Value> = Head {
            command,
            verdict: status.verdict(),
            exit_code: status as u8,
            model: about.model.as_deref(),
            signature: about.signature.as_deref(),
        }
        .into();
        insert(&mut report, fields.unwrap_or_else(|fault| fault.fields()));
        Ok(serde_json::to_string_pretty(&report).ok().and_then(|text| CString::new(text + "\n").ok()))
    };
    let report = caught(report).ok().flatten();
    Told { status, value, report }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said() -> String {
        MESSAGE.with(|message| message.borrow().to_string_lossy().into_owned())
    }

    #[test]
    fn a_panic_is_no_answer_and_goes_no_further() {
        let (status, value) = call(|| -> Result<(), Fault> { panic!("planted {}", 7) });
        assert_eq!((status, value), (Status::NoAnswer, None));
        assert!(said().contains("(planted 7)") && said().contains("defect"), "{}", said());
        let told = verb("verify", |about| -> Result<((), Value), Fault> {
            about.model = Some("m".into());
            panic!("planted");
        });
        assert_eq!((told.status, told.value), (Status::NoAnswer, None));
        let report: Value = serde_json::from_slice(told.report.unwrap().to_bytes()).unwrap();
        assert_eq!(
            (&report["verdict"], &report["exit_code"], &report["error"]["kind"], &report["model"]),
            (&json!("none"), &json!(3), &json!("defect"), &json!("m"))
        );
        catch_unwind(|| call(|| -> Result<(), Fault> { std::panic::panic_any(7) })).unwrap();
        assert!(said().contains("without a word"));
    }

    #[test]
    fn a_message_is_of_the_last_call_of_its_thread_and_ends_where_it_ends() {
        assert_eq!(call(|| Err::<(), _>(Fault::usage("a\0b"))), (Status::Usage, None));
        assert_eq!(said(), "a\\0b");
        std::thread::spawn(|| assert_eq!(said(), "")).join().unwrap();
        assert_eq!(call(|| Ok(7)), (Status::Yes, Some(7)));
        assert_eq!(said(), "");
    }

    /// The numbers in the header are those that are returned.
    #[test]
    fn the_header_has_the_values_of_here() {
        let header = include_str!("../include/tensorseal.h");
        let value = |name: &str| -> i32 {
            let (_, rest) = header.split_once(&format!("    TENSORSEAL_{name} = ")).unwrap();
            let digits = rest.split(|c: char| !c.is_ascii_digit()).next().unwrap();
            digits.parse().unwrap()
        };
        for (name, status) in
            [("YES", Status::Yes), ("NO", Status::No), ("USAGE", Status::Usage), ("NO_ANSWER", Status::NoAnswer)]
        {
            assert_eq!(value(name), status as i32, "{name}");
        }
        assert_eq!(value("HOST"), crate::lent::HOST);
        assert_eq!(value("DEVICE"), crate::lent::DEVICE);
        assert!(header.contains(&format!("#define TENSORSEAL_ABI {}\n", crate::abi::ABI)));
        assert!(header.contains(&format!("#define TENSORSEAL_DIGEST_LEN {}\n", crate::abi::DIGEST_LEN)));
    }
}
