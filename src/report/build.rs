//! Takes plotly.js out of the crate that carries it, so that nothing else of the crate is in the
//! program: `$OUT_DIR/plotly.js`.

use std::error::Error;
use std::path::Path;
use std::{env, fs};

fn main() -> Result<(), Box<dyn Error>> {
    // Elements of HTML, plotly.js first.
    let elements = plotly::Plot::offline_js_sources();
    let (_, script) = elements.split_once('>').ok_or("no element begins")?;
    let (library, _) = script.split_once("</script>").ok_or("no element ends")?;
    if !library.contains("plotly.js") {
        return Err("the first element is not plotly.js".into());
    }
    fs::write(Path::new(&env::var("OUT_DIR")?).join("plotly.js"), library)?;
    println!("cargo::rerun-if-changed=build.rs");
    Ok(())
}
