//! A connection whose requests may have more headers than the gateway reads.

use std::io::{Error, IoSlice, Result};
use std::os::fd::AsFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;

use super::relay::ClientConnection;

/// How hyper begins its own refusal (RFC 6585, 5), which is all that it says then.
const TOO_LARGE: &[u8] = b"HTTP/1.1 431 Request Header Fields Too Large\r\n";
/// What is wrong are the cookies, which a page of any server on this machine can set: without them
/// the browser gets in again.
const DROP: &[u8] = b"clear-site-data: \"cookies\"\r\n";

/// Bytes of such a request that are thrown away, more than the cookies that a browser keeps for one
/// host (180 of 4 KiB), and for how long: a connection that is closed before all of it has come is
/// reset, and the answer with it.
const UNREAD: u64 = 1 << 20;
const FAREWELL: Duration = Duration::from_millis(500);

/// Adds to hyper's refusal of too many headers that the browser drops its cookies.
pub struct HeaderLimitReader(pub TcpStream, pub Arc<ClientConnection>);

impl HeaderLimitReader {
    /// Reads on after hyper has let go of it, in the same place.
    fn read_rest(&self) -> Result<()> {
        let stream = std::net::TcpStream::from(self.0.as_fd().try_clone_to_owned()?);
        let (mut stream, line) = (TcpStream::from_std(stream)?, Arc::clone(&self.1));
        tokio::spawn(async move {
            let part = async {
                stream.shutdown().await?;
                tokio::io::copy(&mut stream.take(UNREAD), &mut tokio::io::sink()).await
            };
            let _ = tokio::time::timeout(FAREWELL, part).await;
            drop(line);
        });
        Ok(())
    }
}

impl AsyncRead for HeaderLimitReader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for HeaderLimitReader {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<Result<usize>> {
        let Some(rest) = buf.strip_prefix(TOO_LARGE) else {
            return Pin::new(&mut self.0).poll_write(cx, buf);
        };
        let whole = [TOO_LARGE, DROP, rest].concat();
        // Nothing of the connection waits before it, and a browser that reads nothing is not told.
        let written = ready!(Pin::new(&mut self.0).poll_write(cx, &whole))?;
        if written < whole.len() {
            return Poll::Ready(Err(Error::other("the refusal was not taken")));
        }
        Poll::Ready(self.read_rest().map(|()| buf.len()))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        match bufs.iter().find(|b| !b.is_empty()) {
            Some(first) if first.starts_with(TOO_LARGE) => self.poll_write(cx, first),
            _ => Pin::new(&mut self.0).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
