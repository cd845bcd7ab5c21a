//! Message encryption for Web Push (RFC 8291) in one aes128gcm record (RFC 8188).

use aws_lc_rs::{
    aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey},
    agreement::{self, ECDH_P256, PrivateKey, UnparsedPublicKey},
    hkdf::{HKDF_SHA256, KeyType, Salt},
};
use tandem_chassis::rng::Rng;

/// Size of the only record, which push services must take (RFC 8291, section 4).
const RECORD: usize = 4_096;
const HEADER: usize = 16 + 4 + 1 + 65;
const TAG: usize = 16;

/// Longest plaintext: what fits into one record beside its header, delimiter and tag.
pub const MAX_PLAINTEXT: usize = RECORD - HEADER - TAG - 1;

/// Why a message cannot be encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EncryptError {
    /// The subscription's key.
    #[error("p256dh is not an uncompressed point of p-256")]
    Key,
    /// The subscription's secret.
    #[error("auth is not 16 octets")]
    Auth,
    /// The message.
    #[error("the message is longer than 3993 octets")]
    TooLong,
    /// The library.
    #[error("encryption failed")]
    Failed,
}

/// Encrypts for the subscription with a new key and salt. The body of a request with
/// `content-encoding: aes128gcm`.
pub fn encrypt(
    rng: &Rng,
    plaintext: &[u8],
    p256dh: &[u8],
    auth: &[u8],
) -> Result<Vec<u8>, EncryptError> {
    let mut salt = [0; 16];
    rng.fill(&mut salt);
    let key = private_key(rng)?;
    encrypt_with(&key, salt, plaintext, p256dh, auth)
}

/// A new private key.
pub(super) fn private_key(rng: &Rng) -> Result<PrivateKey, EncryptError> {
    // all but one of 2^32 numbers are keys
    for _ in 0..8 {
        let mut secret = [0; 32];
        rng.fill(&mut secret);
        if let Ok(key) = PrivateKey::from_private_key(&ECDH_P256, &secret) {
            return Ok(key);
        }
    }
    Err(EncryptError::Failed)
}

/// Encrypts with the given key and salt. Neither may be used twice.
fn encrypt_with(
    key: &PrivateKey,
    salt: [u8; 16],
    plaintext: &[u8],
    p256dh: &[u8],
    auth: &[u8],
) -> Result<Vec<u8>, EncryptError> {
    if plaintext.len() > MAX_PLAINTEXT {
        return Err(EncryptError::TooLong);
    }
    if auth.len() != 16 {
        return Err(EncryptError::Auth);
    }
    if p256dh.len() != 65 {
        return Err(EncryptError::Key);
    }
    let public = key.compute_public_key().map_err(|_| EncryptError::Failed)?;
    let peer = UnparsedPublicKey::new(&ECDH_P256, p256dh);
    let (cek, nonce) = agreement::agree(key, peer, EncryptError::Key, |secret| {
        // RFC 8291, section 3.3, then RFC 8188, sections 2.2 and 2.3
        let ikm: [u8; 32] = derive(auth, secret, &[b"WebPush: info\0", p256dh, public.as_ref()])?;
        let cek: [u8; 16] = derive(&salt, &ikm, &[b"Content-Encoding: aes128gcm\0"])?;
        let nonce: [u8; 12] = derive(&salt, &ikm, &[b"Content-Encoding: nonce\0"])?;
        Ok((cek, nonce))
    })?;
    let mut record = Vec::with_capacity(plaintext.len() + 1 + TAG);
    record.extend_from_slice(plaintext);
    // the delimiter of the last record
    record.push(2);
    let sealing = UnboundKey::new(&AES_128_GCM, &cek).map_err(|_| EncryptError::Failed)?;
    LessSafeKey::new(sealing)
        .seal_in_place_append_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::empty(),
            &mut record,
        )
        .map_err(|_| EncryptError::Failed)?;
    let mut body = Vec::with_capacity(HEADER + record.len());
    body.extend_from_slice(&salt);
    body.extend_from_slice(&(RECORD as u32).to_be_bytes());
    body.push(65);
    body.extend_from_slice(public.as_ref());
    body.append(&mut record);
    Ok(body)
}

struct Octets(usize);

impl KeyType for Octets {
    fn len(&self) -> usize {
        self.0
    }
}

/// HKDF (RFC 5869) with SHA-256.
fn derive<const N: usize>(
    salt: &[u8],
    secret: &[u8],
    info: &[&[u8]],
) -> Result<[u8; N], EncryptError> {
    let mut out = [0; N];
    Salt::new(HKDF_SHA256, salt)
        .extract(secret)
        .expand(info, Octets(N))
        .and_then(|okm| okm.fill(&mut out))
        .map_err(|_| EncryptError::Failed)?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

    use super::*;

    fn d(text: &str) -> Vec<u8> {
        URL_SAFE_NO_PAD.decode(text).unwrap()
    }

    /// RFC 8291, section 5 and appendix A.
    #[test]
    fn the_rfcs_example_is_encrypted_to_the_octet() {
        let plaintext = b"When I grow up, I want to be a watermelon";
        let key = d("yfWPiYE-n46HLnH0KqZOF1fJJU3MYrct3AELtAQ-oRw");
        let key = PrivateKey::from_private_key(&ECDH_P256, &key).unwrap();
        let salt: [u8; 16] = d("DGv6ra1nlYgDCS1FRnbzlw").try_into().unwrap();
        let p256dh = d(
            "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4",
        );
        let auth = d("BTBZMqHH6r4Tts7J_aSIgg");
        let body = encrypt_with(&key, salt, plaintext, &p256dh, &auth).unwrap();
        let want = concat!(
            "DGv6ra1nlYgDCS1FRnbzlwAAEABBBP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27ml",
            "mlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8wEqKK6PBru3jl7A_yl95bQpu6cVPT",
            "pK4Mqgkf1CXztLVBSt2Ks3oZwbuwXPXLWyouBWLVWGNWQexSgSxsj_Qulcy4a-fN",
        );
        assert_eq!(URL_SAFE_NO_PAD.encode(body), want);
    }

    #[test]
    fn the_longest_message_fills_one_record_and_a_longer_one_is_refused() {
        let rng = Rng::from_seed(1);
        let peer = private_key(&rng).unwrap().compute_public_key().unwrap();
        let seal = |n| encrypt(&rng, &vec![b'x'; n], peer.as_ref(), &[0; 16]);
        assert_eq!(seal(MAX_PLAINTEXT).unwrap().len(), RECORD);
        assert_eq!(MAX_PLAINTEXT, 3_993);
        assert_eq!(seal(MAX_PLAINTEXT + 1), Err(EncryptError::TooLong));
    }

    #[test]
    fn a_bad_subscription_is_refused() {
        let rng = Rng::from_seed(1);
        let mut off_curve = [9; 65];
        off_curve[0] = 4;
        assert_eq!(
            encrypt(&rng, b"x", &off_curve, &[0; 16]),
            Err(EncryptError::Key)
        );
        assert_eq!(
            encrypt(&rng, b"x", &[4; 33], &[0; 16]),
            Err(EncryptError::Key)
        );
        assert_eq!(
            encrypt(&rng, b"x", &[4; 65], &[0; 15]),
            Err(EncryptError::Auth)
        );
    }
}
