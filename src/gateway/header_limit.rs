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

/// The beginning of hyper's own refusal (RFC 6585, 5), after which it sends nothing else.
const TOO_LARGE: &[u8] = b"HTTP/1.1 431 Request Header Fields Too Large\r\n";
/// The cause is cookies, which a page of any server on this machine can set: without them the
/// browser is admitted again.
const DROP: &[u8] = b"clear-site-data: \"cookies\"\r\n";

/// How many bytes of such a request are read and discarded (more than the cookies that a browser
/// keeps for one host, 180 of 4 KiB), and for how long: if the connection were closed before the
/// whole request has arrived, it would be reset and the answer lost.
const UNREAD: u64 = 1 << 20;
const FAREWELL: Duration = Duration::from_millis(500);

/// Adds a header to hyper's refusal of too many headers that makes the browser drop its cookies.
pub(crate) struct HeaderLimitReader(pub TcpStream, pub Arc<ClientConnection>);

impl HeaderLimitReader {
    /// Reads the rest after hyper has dropped the connection.
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
        // Nothing is queued before it, and a browser that does not read is not told.
        let written = ready!(Pin::new(&mut self.0).poll_write(cx, &whole))?;
        if written < whole.len() {
            return Poll::Ready(Err(Error::other("the refusal could not be sent")));
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
