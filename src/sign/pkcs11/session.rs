//! From a module to a session with one token, logged in if that is what it takes.

use cryptoki::context::Pkcs11;
use cryptoki::error::{Error, RvError};
use cryptoki::session::Session;
use cryptoki::slot::{Slot, SlotInfo, TokenInfo};
use cryptoki::types::AuthPin;
use zeroize::Zeroizing;

use super::module::{Login, Module, failed};
use super::pin;
use super::{PinTries, Pkcs11Error, Pkcs11Uri, TokenName, UriPin};
use crate::key::PasswordError;

/// A session with a token. Dropping it logs out, closes it and lets go of the module, in this order.
pub(super) struct TokenSession {
    login: Option<Login>,
    pub(super) session: Session,
    pub(super) slot: Slot,
    pub(super) token: TokenName,
    /// The PIN that opened it, for keys that want it again.
    pub(super) pin: Option<AuthPin>,
    /// Last, for fields are dropped in their order.
    pub(super) module: Module,
}

impl Drop for TokenSession {
    fn drop(&mut self) {
        if let Some(login) = &self.login {
            login.end(&self.session);
        }
    }
}

impl TokenSession {
    /// Opens the one token that fits `uri`. `ask` is called if it needs a PIN and `uri` has none.
    pub(super) fn open(
        module: Module,
        uri: &Pkcs11Uri,
        ask: &mut dyn FnMut(&TokenName) -> Result<Zeroizing<String>, PasswordError>,
    ) -> Result<Self, Pkcs11Error> {
        check_library(&module.pkcs11, uri)?;
        let (slot, token, info) = choose(&module.pkcs11, uri)?;
        let session = module.pkcs11.open_ro_session(slot).map_err(|error| failed("open a session", &error))?;
        let mut opened = Self { login: None, session, slot, token, pin: None, module };
        opened.log_in(uri, &info, ask)?;
        Ok(opened)
    }

    fn log_in(
        &mut self,
        uri: &Pkcs11Uri,
        info: &TokenInfo,
        ask: &mut dyn FnMut(&TokenName) -> Result<Zeroizing<String>, PasswordError>,
    ) -> Result<(), Pkcs11Error> {
        if !info.login_required() && uri.pin.is_none() {
            return Ok(());
        }
        // Another try would not help, and on some tokens it would cost.
        if info.user_pin_locked() {
            return Err(Pkcs11Error::PinLocked { token: self.token.clone() });
        }
        let pin = match &uri.pin {
            Some(UriPin::Value(pin)) => Some(pin.clone()),
            Some(UriPin::Source(path)) => Some(pin::read(path)?),
            // The PIN is typed at the token or its reader.
            None if info.protected_authentication_path() => None,
            None => Some(ask(&self.token).map_err(|error| match error {
                PasswordError::Unreadable(why) => Pkcs11Error::PinUnreadable(why),
                PasswordError::NotGiven => Pkcs11Error::PinNotGiven { token: self.token.clone() },
            })?),
        };
        if pin.as_ref().is_some_and(|pin| pin.is_empty()) {
            return Err(Pkcs11Error::PinUnreadable("it is empty".to_owned()));
        }
        self.pin = pin.map(|pin| AuthPin::new(pin.as_str().into()));
        let result = self.module.login(&self.session, self.slot, self.pin.as_ref());
        self.login = result.map_err(|error| self.login_failed(&error))?;
        Ok(())
    }

    /// Why a login failed, with what the token says of further tries.
    pub(super) fn login_failed(&self, error: &Error) -> Pkcs11Error {
        let token = self.token.clone();
        match error {
            Error::Pkcs11(RvError::PinIncorrect | RvError::PinInvalid | RvError::PinLenRange, _) => {
                let left = match self.module.pkcs11.get_token_info(self.slot) {
                    Ok(info) if info.user_pin_locked() => PinTries::None,
                    Ok(info) if info.user_pin_final_try() => PinTries::One,
                    _ => PinTries::More,
                };
                Pkcs11Error::PinIncorrect { token, left }
            }
            Error::Pkcs11(RvError::PinLocked, _) => Pkcs11Error::PinLocked { token },
            error => failed("log in", error),
        }
    }
}

/// Whether the module is the one that the URI asks for.
fn check_library(pkcs11: &Pkcs11, uri: &Pkcs11Uri) -> Result<(), Pkcs11Error> {
    if uri.library_manufacturer.is_none() && uri.library_description.is_none() && uri.library_version.is_none() {
        return Ok(());
    }
    let info = pkcs11.get_library_info().map_err(|error| failed("say what it is", &error))?;
    let version = (info.library_version().major(), info.library_version().minor());
    let dotted = |(major, minor): (u8, u8)| format!("{major}.{minor}");
    for (attribute, wanted, found) in [
        ("library-manufacturer", uri.library_manufacturer.clone(), info.manufacturer_id().to_owned()),
        ("library-description", uri.library_description.clone(), info.library_description().to_owned()),
        ("library-version", uri.library_version.map(dotted), dotted(version)),
    ] {
        if let Some(wanted) = wanted.filter(|wanted| *wanted != found) {
            return Err(Pkcs11Error::OtherLibrary { attribute, wanted, found });
        }
    }
    Ok(())
}

/// The one slot whose token fits.
fn choose(pkcs11: &Pkcs11, uri: &Pkcs11Uri) -> Result<(Slot, TokenName, TokenInfo), Pkcs11Error> {
    let slots = pkcs11.get_slots_with_token().map_err(|error| failed("list its slots", &error))?;
    let (mut fitting, mut seen) = (Vec::new(), Vec::new());
    for slot in slots {
        let token = match pkcs11.get_token_info(slot) {
            Ok(token) => token,
            // Pulled out just now, or never a token that can be used: it cannot be the one.
            Err(Error::Pkcs11(RvError::TokenNotPresent | RvError::TokenNotRecognized | RvError::DeviceRemoved, _)) => {
                continue;
            }
            Err(error) => return Err(failed("read what token is in a slot", &error)),
        };
        if !token.token_initialized() {
            continue;
        }
        let name =
            TokenName { label: token.label().to_owned(), serial: token.serial_number().to_owned(), slot: slot.id() };
        seen.push(name.clone());
        let info = pkcs11.get_slot_info(slot).map_err(|error| failed("describe a slot", &error))?;
        if fits(uri, slot, &info, &token) {
            fitting.push((slot, name, token));
        }
    }
    let wanted = || uri.without_query();
    if let [(_, first, _), (_, second, _), ..] = &fitting[..] {
        let (first, second) = (first.clone(), second.clone());
        return Err(Pkcs11Error::SeveralTokens { wanted: wanted(), first, second });
    }
    fitting.pop().ok_or_else(|| Pkcs11Error::NoToken { wanted: wanted(), found: seen })
}

fn fits(uri: &Pkcs11Uri, slot: Slot, info: &SlotInfo, token: &TokenInfo) -> bool {
    let is = |wanted: &Option<String>, found: &str| wanted.as_ref().is_none_or(|wanted| wanted == found);
    uri.slot_id.is_none_or(|wanted| wanted == slot.id())
        && is(&uri.slot_description, info.slot_description())
        && is(&uri.slot_manufacturer, info.manufacturer_id())
        && is(&uri.token, token.label())
        && is(&uri.manufacturer, token.manufacturer_id())
        && is(&uri.model, token.model())
        && is(&uri.serial, token.serial_number())
}
