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

#[cfg(test)]
mod tests {
    use std::io::Error;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// Tells of a connection as the system might, once it was asked so often.
    struct Told(AtomicUsize, fn() -> std::io::Result<Option<u32>>);

    impl PeerLookup for Told {
        fn uid(&self, _: SocketAddr, _: SocketAddr) -> std::io::Result<Option<u32>> {
            match self
                .0
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1))
            {
                Ok(_) => Ok(None),
                Err(_) => (self.1)(),
            }
        }
    }

    #[test]
    fn only_the_sandbox_user_is_inside() {
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let inside = |asked, answer| {
            let peers = Arc::new(Told(AtomicUsize::new(asked), answer));
            let check = InsideCheck::new(peers, 441, "token");
            runtime.block_on(async {
                let stream = TcpStream::connect(listener.local_addr().unwrap())
                    .await
                    .unwrap();
                let reaches = check.reaches_sandbox(&stream).await;
                (reaches, check.is_of_sandbox(&stream))
            })
        };
        assert_eq!(inside(0, || Ok(Some(441))), (true, true));
        assert_eq!(inside(3, || Ok(Some(441))), (true, true), "accepted later");
        assert_eq!(inside(0, || Ok(Some(502))), (false, false));
        assert_eq!(inside(0, || Ok(Some(0))), (false, false));
        let untold = || Err(Error::other("two match"));
        assert_eq!(inside(0, untold), (false, false));
        let unknown = || Err(ErrorKind::Unsupported.into());
        assert_eq!(inside(0, unknown), (true, true), "then the token is all");
    }
}
