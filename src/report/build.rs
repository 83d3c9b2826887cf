//! Takes plotly.js out of the crate that carries it, so that nothing else of the crate is in the
//! program, and compresses it to a quarter: `$OUT_DIR/plotly.js.zz`, in zlib's format.

use std::error::Error;
use std::io::Write;
use std::path::Path;
use std::{env, fs};

use flate2::Compression;
use flate2::write::ZlibEncoder;

fn main() -> Result<(), Box<dyn Error>> {
    // Elements of HTML, plotly.js first.
    let elements = plotly::Plot::offline_js_sources();
    let (_, script) = elements.split_once('>').ok_or("no element begins")?;
    let (library, _) = script.split_once("</script>").ok_or("no element ends")?;
    if !library.contains("plotly.js") {
        return Err("the first element is not plotly.js".into());
    }
    let file = fs::File::create(Path::new(&env::var("OUT_DIR")?).join("plotly.js.zz"))?;
    let mut encoder = ZlibEncoder::new(file, Compression::best());
    encoder.write_all(library.as_bytes())?;
    encoder.finish()?;
    println!("cargo::rerun-if-changed=build.rs");
    Ok(())
}
