//! A private key in a token: finding it and its public half, and having it sign.

use std::fmt;
use std::path::PathBuf;

use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::{Mechanism, MechanismType};
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::UserType;
use zeroize::Zeroizing;

use super::module::{Module, code, failed};
use super::session::TokenSession;
use super::{KeyName, ObjectKind, Pkcs11Error, Pkcs11Uri, TokenName, search};
use crate::key::{KeyError, PasswordError, PublicKey};
use crate::x509::Certificate;

/// A private key that stays in its token.
///
/// The session stays open until this is dropped: hours may pass between finding the key, which fails early if the PIN is
/// wrong, and the signature, and a session that is kept needs no PIN in memory meanwhile. (A key with
/// `CKA_ALWAYS_AUTHENTICATE` does.) Dropping it logs out, closes the session and finalises the module.
pub struct Pkcs11Key {
    token: TokenSession,
    handle: ObjectHandle,
    name: KeyName,
    public: PublicKey,
    /// Whether each signature takes another login.
    always_authenticate: bool,
}

impl Pkcs11Key {
    /// Opens the key that `uri` names. `modules`, files or folders, say where the module is in place of the URI's
    /// `module-path` and of the usual folders. `certified` is the key of a certificate that the caller will sign with: it is
    /// taken for the public half if the token holds none.
    /// `pin` is called, once, if the token needs a PIN and the URI has none.
    ///
    /// # Errors
    /// [`Pkcs11Error`] unless exactly one token and exactly one private key of it fit, the key can sign, and its public
    /// half is known.
    pub fn open(
        uri: &Pkcs11Uri,
        modules: &[PathBuf],
        certified: Option<&PublicKey>,
        pin: &mut dyn FnMut(&TokenName) -> Result<Zeroizing<String>, PasswordError>,
    ) -> Result<Self, Pkcs11Error> {
        // All that can be known without the module, and without a try at the PIN.
        if uri.object.is_none() && uri.id.is_none() {
            return Err(Pkcs11Error::NoKeyNamed);
        }
        if let Some(kind) = uri.kind.filter(|kind| *kind != ObjectKind::PrivateKey) {
            return Err(Pkcs11Error::KindOfObject(kind));
        }
        let module = Module::load(&search::module(uri, modules)?)?;
        let mut token = TokenSession::open(module, uri, pin)?;
        let (handle, name) = token.private_key(uri)?;
        let always_authenticate = token.check_use(handle, &name)?;
        let public = token.public_half(handle, &name, certified)?;
        if !always_authenticate {
            token.pin = None;
        }
        Ok(Self { token, handle, name, public, always_authenticate })
    }

    /// The public half.
    #[must_use]
    pub const fn public_key(&self) -> &PublicKey {
        &self.public
    }

    /// The token that holds it.
    #[must_use]
    pub const fn token(&self) -> &TokenName {
        &self.token.token
    }

    /// Has the token sign the curve's own hash of `message`: ECDSA, in DER, verified with the public half.
    ///
    /// # Errors
    /// [`Pkcs11Error`] if the token does not sign, or if what it returns is no signature of this key.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Pkcs11Error> {
        let hash = self.public.curve().hash(message);
        let raw = if self.always_authenticate { self.sign_with_login(&hash)? } else { self.sign_once(&hash)? };
        let bad = || Pkcs11Error::BadSignature { key: self.name.clone() };
        let signature = self.public.signature_of_halves(&raw).ok_or_else(bad)?;
        self.public.verify(message, &signature).map_err(|_| bad())?;
        Ok(signature)
    }

    fn sign_once(&self, hash: &[u8]) -> Result<Vec<u8>, Pkcs11Error> {
        let signed = self.token.session.sign(&Mechanism::Ecdsa, self.handle, hash);
        signed.map_err(|error| failed("sign", &error))
    }

    /// PKCS#11 v3.1, section 4.9 (`CKA_ALWAYS_AUTHENTICATE`): the login of this kind comes between the beginning of an
    /// operation and its first data. What the crate has for an operation that has begun is in parts.
    fn sign_with_login(&self, hash: &[u8]) -> Result<Vec<u8>, Pkcs11Error> {
        let session = &self.token.session;
        session.sign_init(&Mechanism::Ecdsa, self.handle).map_err(|error| failed("begin to sign", &error))?;
        session
            .login(UserType::ContextSpecific, self.token.pin.as_ref())
            .map_err(|error| self.token.login_failed(&error))?;
        let signed = session.sign_update(hash).and_then(|()| session.sign_final());
        signed.map_err(|error| match error {
            Error::Pkcs11(RvError::FunctionNotSupported | RvError::OperationNotInitialized, _)
            | Error::NullFunctionPointer => {
                Pkcs11Error::AlwaysAuthenticate { key: self.name.clone(), code: code(&error) }
            }
            error => failed("sign", &error),
        })
    }
}

impl fmt::Debug for Pkcs11Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pkcs11Key")
            .field("token", &self.token.token)
            .field("name", &self.name)
            .field("public", &self.public)
            .finish_non_exhaustive()
    }
}

impl TokenSession {
    /// The one private key that fits.
    fn private_key(&self, uri: &Pkcs11Uri) -> Result<(ObjectHandle, KeyName), Pkcs11Error> {
        let class = Attribute::Class(ObjectClass::PRIVATE_KEY);
        let mut template = vec![class.clone()];
        template.extend(uri.object.as_ref().map(|label| Attribute::Label(label.clone().into_bytes())));
        template.extend(uri.id.clone().map(Attribute::Id));
        let found = self.find(&template)?;
        let wanted = || uri.without_query();
        let token = || self.token.clone();
        match found[..] {
            [one] => Ok((one, self.name_of(one)?)),
            [] => {
                let there = self.find(&[class])?;
                let found = there.into_iter().map(|key| self.name_of(key)).collect::<Result<_, _>>()?;
                Err(Pkcs11Error::NoKey { wanted: wanted(), token: token(), found })
            }
            [first, second, ..] => {
                let (first, second) = (self.name_of(first)?, self.name_of(second)?);
                Err(Pkcs11Error::SeveralKeys { wanted: wanted(), token: token(), first, second })
            }
        }
    }

    /// Refuses what cannot sign here; tells whether each signature takes a login.
    fn check_use(&self, handle: ObjectHandle, name: &KeyName) -> Result<bool, Pkcs11Error> {
        // Alone: the crate knows some types by no name, and then gives no attribute at all.
        match self.attributes(handle, &[AttributeType::KeyType])?.pop() {
            Some(Attribute::KeyType(KeyType::EC)) => {}
            Some(Attribute::KeyType(other)) => {
                let found = other.to_string().trim_start_matches("CKK_").replace('_', " ");
                return Err(Pkcs11Error::KeyType { key: name.clone(), found });
            }
            _ => return Err(Pkcs11Error::KeyType { key: name.clone(), found: "that it does not tell".to_owned() }),
        }
        let mut always_authenticate = false;
        for attribute in self.attributes(handle, &[AttributeType::Sign, AttributeType::AlwaysAuthenticate])? {
            match attribute {
                Attribute::Sign(false) => return Err(Pkcs11Error::NotForSigning { key: name.clone() }),
                Attribute::AlwaysAuthenticate(each) => always_authenticate = each,
                _ => {}
            }
        }
        // Whatever else goes wrong with this question, signing has the last word.
        if let Err(error @ Error::Pkcs11(RvError::MechanismInvalid, _)) =
            self.module.pkcs11.get_mechanism_info(self.slot, MechanismType::ECDSA)
        {
            return Err(failed("sign by ECDSA", &error));
        }
        Ok(always_authenticate)
    }

    /// The public half: from the public key or certificate beside the key, from the key itself, or as certified.
    fn public_half(
        &self,
        handle: ObjectHandle,
        name: &KeyName,
        certified: Option<&PublicKey>,
    ) -> Result<PublicKey, Pkcs11Error> {
        let bad = |source| Pkcs11Error::Key { key: name.clone(), source };
        // What belongs together has one identifier (PKCS#11 v3.1, section 4.6.2); where there is none, one label.
        let same = match (&name.id, &name.label) {
            (Some(id), _) => Some(Attribute::Id(id.clone())),
            (None, label) => label.as_ref().map(|label| Attribute::Label(label.clone().into_bytes())),
        };
        let mut keys = Vec::new();
        if let Some(same) = same {
            for object in self.find(&[Attribute::Class(ObjectClass::PUBLIC_KEY), same.clone()])? {
                keys.extend(self.of_public_key(object)?.map(|key| key.map_err(bad)));
            }
            for object in self.find(&[Attribute::Class(ObjectClass::CERTIFICATE), same])? {
                for attribute in self.attributes(object, &[AttributeType::Value])? {
                    let Attribute::Value(der) = attribute else { continue };
                    // Nothing else is asked of it here: verifiers judge the certificate that goes into the signature.
                    let unreadable = |fault| Pkcs11Error::CertificateOfToken { key: name.clone(), fault };
                    keys.push(Certificate::from_der(&der).map_err(unreadable)?.public_key().map_err(bad));
                }
            }
        }
        for attribute in self.attributes(handle, &[AttributeType::PublicKeyInfo])? {
            // SoftHSM has the attribute and leaves it empty.
            if let Attribute::PublicKeyInfo(spki) = attribute
                && !spki.is_empty()
            {
                keys.push(PublicKey::from_spki_der(&spki).map_err(bad));
            }
        }
        let mut keys = keys.into_iter().collect::<Result<Vec<_>, _>>()?.into_iter();
        let Some(held) = keys.next() else {
            return certified.cloned().ok_or_else(|| Pkcs11Error::NoPublicKey { key: name.clone() });
        };
        if keys.any(|other| other != held) {
            return Err(Pkcs11Error::Contradiction { key: name.clone() });
        }
        Ok(held)
    }

    /// What a public key object holds; `None` if it does not tell.
    fn of_public_key(&self, object: ObjectHandle) -> Result<Option<Result<PublicKey, KeyError>>, Pkcs11Error> {
        let (mut parameters, mut point) = (None, None);
        for attribute in self.attributes(object, &[AttributeType::EcParams, AttributeType::EcPoint])? {
            match attribute {
                Attribute::EcParams(bytes) => parameters = Some(bytes),
                Attribute::EcPoint(bytes) => point = Some(bytes),
                _ => {}
            }
        }
        Ok(parameters.zip(point).map(|(parameters, point)| PublicKey::from_token(&parameters, &point)))
    }

    fn name_of(&self, object: ObjectHandle) -> Result<KeyName, Pkcs11Error> {
        let mut name = KeyName::default();
        for attribute in self.attributes(object, &[AttributeType::Label, AttributeType::Id])? {
            match attribute {
                Attribute::Label(label) if !label.is_empty() => {
                    name.label = Some(String::from_utf8_lossy(&label).into_owned());
                }
                Attribute::Id(id) if !id.is_empty() => name.id = Some(id),
                _ => {}
            }
        }
        Ok(name)
    }

    fn find(&self, template: &[Attribute]) -> Result<Vec<ObjectHandle>, Pkcs11Error> {
        self.session.find_objects(template).map_err(|error| failed("look for objects", &error))
    }

    fn attributes(&self, object: ObjectHandle, wanted: &[AttributeType]) -> Result<Vec<Attribute>, Pkcs11Error> {
        self.session.get_attributes(object, wanted).map_err(|error| failed("read attributes of an object", &error))
    }
}
