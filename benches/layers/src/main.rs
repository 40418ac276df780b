//! The code that reads layers, natively: `strata-layers pass|without|inflate FILE`.

use std::{env, error::Error, fs::File, io::Read};

use strata::layer::{
    gzip::{Gunzip, GzipError},
    pass::{Options, Pass},
};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args().skip(1);
    let (Some(what), Some(path)) = (arguments.next(), arguments.next()) else {
        return Err("strata-layers pass|without|inflate FILE".into());
    };
    let mut file = File::open(path)?;
    let mut piece = vec![0; 256 * 1024];
    match what.as_str() {
        "pass" | "without" => {
            let begin = if what == "pass" {
                Pass::new
            } else {
                Pass::without_diff_id
            };
            let mut pass = begin(file.metadata()?.len(), Options::default());
            while let Some(piece) = next(&mut file, &mut piece)? {
                pass.push(piece)?;
                while pass.object().is_some() {}
            }
            let index = if what == "pass" {
                pass.finish()?.unwrap_or_default()
            } else {
                pass.end_to(|_| ())?;
                pass.finish_as([0; 32])?
            };
            println!("{} {}", pass.position().1, index.len());
        }
        "inflate" => {
            let mut gunzip = Gunzip::default();
            while let Some(piece) = next(&mut file, &mut piece)? {
                gunzip.push(piece, |_| Ok::<_, GzipError>(()))?;
            }
            gunzip.finish(|_| Ok::<_, GzipError>(()))?;
            println!("{}", gunzip.position().1);
        }
        what => return Err(format!("{what} is none of these").into()),
    }
    Ok(())
}

fn next<'a>(file: &mut File, piece: &'a mut [u8]) -> Result<Option<&'a [u8]>, std::io::Error> {
    let length = file.read(piece)?;
    Ok(piece.get(..length).filter(|bytes| !bytes.is_empty()))
}
