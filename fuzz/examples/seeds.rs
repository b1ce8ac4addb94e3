//! Writes what each target begins with: `seeds FOLDER`, with a folder in it for each.

use std::{fs, path::PathBuf};

use centralcap_fuzz::targets::TARGETS;

fn main() {
    let folder = PathBuf::from(std::env::args_os().nth(1).expect("usage: seeds FOLDER"));
    for target in TARGETS {
        let folder = folder.join(target.name);
        fs::create_dir_all(&folder).unwrap();
        for (number, seed) in (target.seeds)().iter().enumerate() {
            fs::write(folder.join(format!("seed-{number}")), seed).unwrap();
        }
    }
}
