//! Modules, loaded and initialised once a process, and finalised when nobody uses them any more.
//!
//! PKCS#11 knows one state for a whole process: `C_Finalize` ends everybody's sessions, and `C_Logout` logs out
//! everybody's. So both are counted here, over all keys that this process has open.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Function, Pkcs11};
use cryptoki::error::{Error, RvError};
use cryptoki::session::{Session, UserType};
use cryptoki::slot::Slot;
use cryptoki::types::AuthPin;

use super::Pkcs11Error;

static LOADED: Mutex<Option<HashMap<PathBuf, Loaded>>> = Mutex::new(None);

struct Loaded {
    pkcs11: Pkcs11,
    /// Whether we initialised it, rather than somebody else in this process.
    ours: bool,
    users: usize,
    /// Keys in use behind each login that we made.
    logins: HashMap<u64, usize>,
}

/// A module in use. The last one of its path to be dropped finalises the module.
pub(super) struct Module {
    path: PathBuf,
    pub(super) pkcs11: Pkcs11,
}

fn loaded() -> MutexGuard<'static, Option<HashMap<PathBuf, Loaded>>> {
    // What panicked elsewhere left counts that are at worst too high: a module that stays loaded.
    LOADED.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Module {
    /// Loads and initialises the module in the file `path`.
    pub(super) fn load(path: &Path) -> Result<Self, Pkcs11Error> {
        if cfg!(target_feature = "crt-static") {
            return Err(Pkcs11Error::Static);
        }
        let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let mut guard = loaded();
        let all = guard.get_or_insert_default();
        if let Some(known) = all.get_mut(&path) {
            known.users += 1;
            return Ok(Self { pkcs11: known.pkcs11.clone(), path });
        }
        let not_a_module = |why: String| Pkcs11Error::NotAModule { path: path.clone(), why };
        let pkcs11 = Pkcs11::new(&path).map_err(|error| match error {
            Error::LibraryLoading(error) => not_a_module(error.to_string()),
            Error::MissingSymbol(name) => not_a_module(format!("it has no {name}")),
            error => failed("begin", &error),
        })?;
        let ours = match pkcs11.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
            Ok(()) => true,
            Err(Error::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => false,
            Err(error) => return Err(failed("start", &error)),
        };
        let module = Self { pkcs11: pkcs11.clone(), path: path.clone() };
        all.insert(path, Loaded { pkcs11, ours, users: 1, logins: HashMap::new() });
        Ok(module)
    }

    /// Logs in, unless that has been done, and counts who relies on it.
    pub(super) fn login(&self, session: &Session, slot: Slot, pin: Option<&AuthPin>) -> Result<Option<Login>, Error> {
        let mut guard = loaded();
        let result = session.login(UserType::User, pin);
        let Some(known) = guard.as_mut().and_then(|all| all.get_mut(&self.path)) else { return result.map(|()| None) };
        match result {
            Ok(()) => {
                known.logins.insert(slot.id(), 1);
            }
            Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => match known.logins.get_mut(&slot.id()) {
                Some(users) => *users += 1,
                // Somebody else's login in this process, and theirs to end.
                None => return Ok(None),
            },
            Err(error) => return Err(error),
        }
        Ok(Some(Login { path: self.path.clone(), slot: slot.id() }))
    }
}

impl Drop for Module {
    fn drop(&mut self) {
        let mut guard = loaded();
        let Some(all) = guard.as_mut() else { return };
        let Some(known) = all.get_mut(&self.path) else { return };
        known.users -= 1;
        if known.users == 0
            && let Some(last) = all.remove(&self.path)
            && last.ours
        {
            // Nothing is left to be done about a module that does not end well.
            let _ = last.pkcs11.finalize();
        }
    }
}

/// That this process is logged in to a token.
pub(super) struct Login {
    path: PathBuf,
    slot: u64,
}

impl Login {
    /// Logs out if nobody else relies on it.
    pub(super) fn end(&self, session: &Session) {
        let mut guard = loaded();
        let known = guard.as_mut().and_then(|all| all.get_mut(&self.path));
        let Some(users) = known.and_then(|known| known.logins.get_mut(&self.slot)) else { return };
        *users -= 1;
        if *users == 0 {
            // A token that was pulled out cannot be logged out of. The session's end does the same.
            let _ = session.logout();
            guard.as_mut().and_then(|all| all.get_mut(&self.path)).map(|known| known.logins.remove(&self.slot));
        }
    }
}

/// What a module said, and what to do about it.
pub(super) fn failed(doing: &'static str, error: &Error) -> Pkcs11Error {
    let remedy = match error {
        Error::Pkcs11(code, _) => remedy(*code),
        _ => "the module does not keep to the standard: update it, or use another",
    };
    Pkcs11Error::Call { doing, code: code(error), remedy }
}

fn remedy(code: RvError) -> &'static str {
    match code {
        RvError::DeviceRemoved | RvError::TokenNotPresent => {
            "the token is not there any more: plug it in and run again"
        }
        RvError::DeviceError | RvError::TokenNotRecognized | RvError::GeneralError | RvError::FunctionFailed => {
            "the token or its connection failed: check it with its own tools (`pkcs11-tool --module MODULE --list-slots`)"
        }
        RvError::DeviceMemory | RvError::HostMemory => "memory is short there: end other programs that use the token",
        RvError::SessionClosed | RvError::SessionHandleInvalid | RvError::UserNotLoggedIn => {
            "the token ended the session, perhaps after a time of no use: run again, and raise that time if hashing takes longer"
        }
        RvError::SessionCount => "the token has no session left: end other programs that use it",
        RvError::UserAnotherAlreadyLoggedIn | RvError::UserTooManyTypes | RvError::SessionReadWriteSoExists => {
            "its security officer is logged in: end that session and run again"
        }
        RvError::UserPinNotInitialized => "the token has no user PIN yet: set one with its security officer's PIN",
        RvError::PinExpired => "the PIN has expired: set a new one with the token's own tools",
        RvError::MechanismInvalid | RvError::MechanismParamInvalid => {
            "the token does not sign by CKM_ECDSA (`pkcs11-tool --module MODULE --list-mechanisms`): use another token"
        }
        RvError::KeyFunctionNotPermitted => "the key may not sign: use one that was made for signing",
        RvError::KeyTypeInconsistent | RvError::KeySizeRange | RvError::CurveNotSupported => {
            "the token does not sign with a key of this kind: use one on P-256, P-384 or P-521"
        }
        RvError::FunctionCanceled | RvError::FunctionRejected | RvError::Cancel => {
            "it was cancelled at the token: run again and confirm it there"
        }
        RvError::SlotIdInvalid => "there is no such slot: list them with `pkcs11-tool --module MODULE --list-slots`",
        RvError::FunctionNotSupported => "the module has no such function: update it, or use another",
        RvError::FipsSelfTestFailed => "the token failed its own test: do not use it",
        RvError::LibraryLoadFailed => "the module misses a library of its own: install all of its package",
        RvError::CantLock | RvError::NeedToCreateThreads => {
            "the module cannot be used by programs with threads: update it"
        }
        _ => "look this code up in the module's documentation",
    }
}

/// `CKR_PIN_INCORRECT`, or what else went wrong.
pub(super) fn code(error: &Error) -> String {
    let (code, function) = match error {
        Error::Pkcs11(code, function) => (code, function),
        error => return error.to_string(),
    };
    let name = match code {
        RvError::VendorDefined(number) => format!("CKR_VENDOR_DEFINED {number:#x}"),
        RvError::UnknownErrorCode(number) => format!("the unknown code {number:#x}"),
        code => format!("CKR{}", snake(&format!("{code:?}"))),
    };
    format!("{} said {name}", function_name(function))
}

fn function_name(function: &Function) -> String {
    format!("C_{function:?}")
}

/// `PinIncorrect` is `_PIN_INCORRECT`.
fn snake(camel: &str) -> String {
    let mut name = String::new();
    for c in camel.chars() {
        if c.is_ascii_uppercase() {
            name.push('_');
        }
        name.push(c.to_ascii_uppercase());
    }
    name
}
