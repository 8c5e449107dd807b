//! `s3://bucket/key`: one GET, signed in its address (AWS Signature Version 4, "Authenticating requests: using query
//! parameters"), so that ranges, resuming and redirects are those of any other file.

use chrono::{DateTime, Utc};
use sha2::{Digest, Sha256};

use super::hub::{Place, encode};
use super::{Hubs, Secret};
use crate::plan::change::hex;

/// The caller's account with a store that speaks S3.
#[derive(Debug, Clone, Default, serde::Serialize, serde::Deserialize)]
pub struct Store {
    /// Of another store than Amazon's; without a slash at the end.
    pub endpoint: Option<String>,
    pub region: String,
    pub key_id: Option<String>,
    pub key: Option<Secret>,
    pub session: Option<Secret>,
}

/// Seconds for which a signed address holds: longer than a download takes.
const EXPIRES: u32 = 86_400;

/// Where an object is fetched: signed where there is a key, plain for a public bucket.
pub fn place(hubs: &Hubs, bucket: &str, key: &str, now: DateTime<Utc>) -> Place {
    let s = &hubs.store;
    // Other stores take the bucket in the path; a name with a dot has no certificate of Amazon's.
    let (server, path) = match &s.endpoint {
        Some(e) => (e.clone(), format!("/{bucket}/{}", encode(key, "/"))),
        None if bucket.contains('.') => (format!("https://s3.{}.amazonaws.com", s.region), format!("/{bucket}/{}", encode(key, "/"))),
        None => (format!("https://{bucket}.s3.{}.amazonaws.com", s.region), format!("/{}", encode(key, "/"))),
    };
    let address = match (&s.key_id, &s.key) {
        (Some(id), Some(key)) => signed(s, id, key, &server, &path, now),
        _ => format!("{server}{path}"),
    };
    Place { address, key: None }
}

fn signed(s: &Store, id: &str, key: &Secret, server: &str, path: &str, now: DateTime<Utc>) -> String {
    let host = server.split("://").nth(1).unwrap_or(server);
    let (time, day) = (now.format("%Y%m%dT%H%M%SZ").to_string(), now.format("%Y%m%d").to_string());
    let scope = format!("{day}/{}/s3/aws4_request", s.region);
    let credential = encode(&format!("{id}/{scope}"), "");
    let session = s.session.as_ref().map_or(String::new(), |t| format!("&X-Amz-Security-Token={}", encode(t.reveal(), "")));
    let query =
        format!("X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={credential}&X-Amz-Date={time}&X-Amz-Expires={EXPIRES}{session}&X-Amz-SignedHeaders=host");
    let request = format!("GET\n{path}\n{query}\nhost:{host}\n\nhost\nUNSIGNED-PAYLOAD");
    let text = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{}", hex(&Sha256::digest(request.as_bytes())));
    let mut signing = hmac(format!("AWS4{}", key.reveal()).as_bytes(), day.as_bytes());
    for part in [s.region.as_str(), "s3", "aws4_request"] {
        signing = hmac(&signing, part.as_bytes());
    }
    format!("{server}{path}?{query}&X-Amz-Signature={}", hex(&hmac(&signing, text.as_bytes())))
}

/// HMAC-SHA256 (RFC 2104).
fn hmac(key: &[u8], message: &[u8]) -> [u8; 32] {
    let mut block = [0; 64];
    match key.len() {
        0..=64 => block[..key.len()].copy_from_slice(key),
        _ => block[..32].copy_from_slice(&Sha256::digest(key)),
    }
    let inner = Sha256::new().chain_update(block.map(|b| b ^ 0x36)).chain_update(message).finalize();
    Sha256::new().chain_update(block.map(|b| b ^ 0x5c)).chain_update(inner).finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of Amazon's own page on signing with query parameters.
    #[test]
    fn the_signature_is_amazons() {
        let store = Store {
            endpoint: None,
            region: "us-east-1".into(),
            key_id: Some("AKIAIOSFODNN7EXAMPLE".into()),
            key: Some(Secret::new("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".into())),
            session: None,
        };
        let now = "2013-05-24T00:00:00Z".parse().unwrap();
        let address = signed(&store, "AKIAIOSFODNN7EXAMPLE", store.key.as_ref().unwrap(), "https://examplebucket.s3.amazonaws.com", "/test.txt", now);
        assert!(address.ends_with("&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"), "{address}");
        let hubs = Hubs { store: Store { key: None, ..store }, ..Hubs::default() };
        assert_eq!(place(&hubs, "b", "a b/c.bin", now).address, "https://b.s3.us-east-1.amazonaws.com/a%20b/c.bin");
    }
}
