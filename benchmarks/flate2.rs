// Writes its input as a raw deflate stream by the flate2 crate: flate2 LEVEL < in > out
//
// benchmarks.tokens builds it once for each backend.
use std::io::{self, Read, Write};

use flate2::{write::DeflateEncoder, Compression};

fn main() -> io::Result<()> {
    let level = std::env::args().nth(1).and_then(|level| level.parse().ok());
    let mut data = Vec::new();
    io::stdin().read_to_end(&mut data)?;
    let level = Compression::new(level.expect("a level"));
    let mut out = DeflateEncoder::new(io::stdout(), level);
    out.write_all(&data)?;
    out.finish()?;
    Ok(())
}
