//! Whose the sockets of ComfyUI and its programs are, where their network is everybody's: another
//! user could have taken ComfyUI's port before it, or use the owner's way out.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use tokio::net::TcpStream;

use crate::host::peer::PeerLookup;

/// How long ComfyUI may take to accept a connection, while it loads a model for example. Until then
/// the system may not tell whose it is.
const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(10);

/// The header by which ComfyUI knows the gateway's requests from those of others, which its port
/// refuses.
const TOKEN: HeaderName = HeaderName::from_static("comfy-inner-token");

/// Asks the system about connections inside, and proves the gateway to ComfyUI.
pub struct InsideCheck {
    peers: Arc<dyn PeerLookup>,
    sandbox: u32,
    /// What ComfyUI admits at its port.
    token: Option<HeaderValue>,
}

impl InsideCheck {
    pub fn new(peers: Arc<dyn PeerLookup>, sandbox: u32, token: &str) -> InsideCheck {
        InsideCheck {
            peers,
            sandbox,
            token: HeaderValue::from_str(token).ok(),
        }
    }

    /// Puts the token into a request to ComfyUI.
    pub(super) fn add_token(&self, headers: &mut HeaderMap) {
        if let Some(token) = &self.token {
            headers.insert(TOKEN, token.clone());
        }
    }

    /// Whether the sandbox user has the other end of a connection that the gateway made. Where the
    /// system tells of no connection at all, everybody may.
    pub(super) async fn reaches_sandbox(&self, stream: &TcpStream) -> bool {
        let asked = async {
            loop {
                match self.owner_of(stream) {
                    Ok(Some(uid)) => return uid == self.sandbox,
                    Ok(None) => tokio::time::sleep(PAUSE).await,
                    Err(e) => return e.kind() == ErrorKind::Unsupported,
                }
            }
        };
        tokio::time::timeout(PATIENCE, asked).await.unwrap_or(false)
    }

    /// Whether the sandbox user made a connection to the gateway, as [`InsideCheck::reaches_sandbox`].
    pub(super) fn is_of_sandbox(&self, stream: &TcpStream) -> bool {
        match self.owner_of(stream) {
            Ok(uid) => uid == Some(self.sandbox),
            Err(e) => e.kind() == ErrorKind::Unsupported,
        }
    }

    fn owner_of(&self, stream: &TcpStream) -> std::io::Result<Option<u32>> {
        let ends = |s: &TcpStream| -> std::io::Result<(SocketAddr, SocketAddr)> {
            Ok((s.peer_addr()?, s.local_addr()?))
        };
        // One that is closed is nobody's.
        match ends(stream) {
            Ok((peer, own)) => self.peers.uid(peer, own),
            Err(_) => Ok(None),
        }
    }
}
