//! Where the header of a safetensors file comes from: the disk, or the first bytes that a server
//! gives.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;

use super::download_source::DownloadSource;
use super::web::{WebClient, WebRequest};
use crate::problem::{Problem, Result};
use crate::safetensors::{SafetensorsHeader, header_length, parse_header};

fn refused_header(why: String) -> Problem {
    Problem::new(format!("is not a valid safetensors file: {why}")).with_hint(
        "download it again, or from another source: readers would not agree on its content",
    )
}

/// # Errors
/// It cannot be read, or is not sound.
pub(crate) fn of_file(file: &File, size: u64) -> Result<SafetensorsHeader> {
    let fail = |e: std::io::Error| {
        Problem::new(format!("its header could not be read: {e}")).caused_by(&e)
    };
    let mut first = [0; 8];
    if size < 8 {
        return Err(refused_header(format!("it has {size} bytes")));
    }
    file.read_exact_at(&mut first, 0).map_err(fail)?;
    let n = header_length(first, size).map_err(refused_header)?;
    let mut json = vec![0; usize::try_from(n).unwrap_or(0)];
    file.read_exact_at(&mut json, 8).map_err(fail)?;
    parse_header(&json, size).map_err(refused_header)
}

/// Most headers are in the first piece; a longer one takes a second request.
const FIRST: u64 = 128 << 10;

/// # Errors
/// The server does not give its first bytes, or they are not sound.
pub(crate) fn of_server(
    web: &WebClient,
    place: &DownloadSource,
    size: u64,
) -> Result<SafetensorsHeader> {
    if size < 8 {
        return Err(refused_header(format!("it has {size} bytes")));
    }
    let part = |from: u64, to: u64| -> Result<Vec<u8>> {
        let ask = WebRequest {
            address: &place.address,
            key: place.key.as_ref(),
            range: Some((from, Some(to - 1))),
            ..WebRequest::default()
        };
        let reply = web
            .ask_patiently(&ask)
            .map_err(|r| place.explain_refusal(r))?;
        let skip = from
            - reply
                .first_byte()
                .filter(|b| *b <= from)
                .ok_or_else(|| Problem::new("the server returns another part than requested"))?;
        let mut body = reply
            .response
            .into_body()
            .into_reader()
            .take(skip + (to - from));
        let mut bytes = Vec::new();
        body.read_to_end(&mut bytes).map_err(|e| {
            Problem::new(format!("its header could not be read: {e}")).caused_by(&e)
        })?;
        bytes.drain(..usize::try_from(skip).unwrap_or(0).min(bytes.len()));
        if bytes.len() as u64 == to - from {
            Ok(bytes)
        } else {
            Err(Problem::new("the server's answer ends within the header"))
        }
    };
    let mut bytes = part(0, FIRST.min(size))?;
    let n = header_length(bytes.first_chunk().copied().unwrap_or_default(), size)
        .map_err(refused_header)?;
    let end = 8 + n;
    if end > bytes.len() as u64 {
        let more = part(bytes.len() as u64, end)?;
        bytes.extend(more);
    }
    parse_header(&bytes[8..usize::try_from(end).unwrap_or(8)], size).map_err(refused_header)
}
