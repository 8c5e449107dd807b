//! Descriptors handed from one process to another over a socket (unix(7), SCM_RIGHTS).

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;

use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};

/// The longest message, in bytes.
const LONGEST: u32 = 1 << 20;

/// Sends a message, and a descriptor with it: four bytes of length, in which the descriptor
/// travels, then the message.
///
/// # Errors
/// The other side is gone.
pub(super) fn send(socket: &mut UnixStream, message: &[u8], fd: Option<RawFd>) -> io::Result<()> {
    let length = u32::try_from(message.len()).map_err(io::Error::other)?;
    let header = length.to_be_bytes();
    let fds = fd.map(|fd| [fd]);
    let rights = fds.as_ref().map(|fds| [ControlMessage::ScmRights(fds)]);
    let control = rights.as_ref().map_or(&[][..], |r| &r[..]);
    let sent = sendmsg::<()>(
        socket.as_raw_fd(),
        &[IoSlice::new(&header)],
        control,
        MsgFlags::empty(),
        None,
    )?;
    socket.write_all(&header[sent..])?;
    socket.write_all(message)
}

/// Receives a message; `None` at the end.
///
/// # Errors
/// The other side does not speak like [`send`].
pub(super) fn receive(socket: &mut UnixStream) -> io::Result<Option<(Vec<u8>, Option<OwnedFd>)>> {
    let mut header = [0; 4];
    let mut space = nix::cmsg_space!([RawFd; 1]);
    let mut fd = None;
    let received = {
        let mut buffer = [IoSliceMut::new(&mut header)];
        let got = recvmsg::<()>(
            socket.as_raw_fd(),
            &mut buffer,
            Some(&mut space),
            MsgFlags::empty(),
        )?;
        for message in got.cmsgs()? {
            if let ControlMessageOwned::ScmRights(fds) = message {
                for number in fds {
                    // SAFETY: the kernel has just made it for this process.
                    fd = Some(unsafe { OwnedFd::from_raw_fd(number) });
                }
            }
        }
        got.bytes
    };
    if received == 0 {
        return Ok(None);
    }
    socket.read_exact(&mut header[received..])?;
    let length = u32::from_be_bytes(header);
    if length > LONGEST {
        return Err(io::Error::other("a message is too long"));
    }
    let mut message = vec![0; length as usize];
    socket.read_exact(&mut message)?;
    Ok(Some((message, fd)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_through_the_descriptor_that_was_sent() {
        let (mut here, mut there) = UnixStream::pair().unwrap();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"content").unwrap();
        send(&mut here, b"first", Some(file.as_raw_fd())).unwrap();
        send(&mut here, b"", None).unwrap();
        drop(here);
        let (message, fd) = receive(&mut there).unwrap().unwrap();
        let mut bytes = [0; 7];
        let file = std::fs::File::from(fd.unwrap());
        std::os::unix::fs::FileExt::read_exact_at(&file, &mut bytes, 0).unwrap();
        assert_eq!((&message[..], &bytes), (&b"first"[..], b"content"));
        assert!(matches!(receive(&mut there).unwrap(), Some((m, None)) if m.is_empty()));
        assert!(receive(&mut there).unwrap().is_none());
    }
}
