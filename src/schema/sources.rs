//! `.proto` files that anybody may have written, compiled.
//!
//! What could take for ever, or all memory, is refused with the file's name: what is no ordinary file, too
//! much text, and nesting that would need more stack than there is.

use std::{
    cell::Cell,
    fs, io,
    path::{Path, PathBuf},
    thread,
};

use prost_reflect::DescriptorPool;
use protox::{
    Compiler, Error,
    file::{ChainFileResolver, File, FileResolver, GoogleFileResolver, IncludeFileResolver},
};

/// So many bytes may all files have that are compiled. Descriptors take many times as much.
const SOURCES_LIMIT: u64 = 4 * 1024 * 1024;

/// So many files may there be: each may import the next, and the compiler is then as deep in them.
const FILES_LIMIT: usize = 2000;

/// So deep may brackets be in each other. Messages may be 32 deep; the values of options are read without
/// any limit.
const DEPTH_LIMIT: usize = 100;

/// The stack for as many files as there may be, each of which imports the next.
const STACK_SIZE: usize = 64 * 1024 * 1024;

/// The descriptors of these files, which are below `folder`, or why there are none.
pub(super) fn compiled(folder: &Path, files: &[PathBuf]) -> Result<DescriptorPool, String> {
    thread::scope(|scope| {
        let thread = thread::Builder::new().stack_size(STACK_SIZE);
        let compiling = thread.spawn_scoped(scope, || compile(folder, files));
        compiling
            .map_err(|error| format!("no thread for them: {error}"))?
            .join()
            .unwrap_or_else(|_| Err("they make no sense as protobuf".to_owned()))
    })
}

fn compile(folder: &Path, files: &[PathBuf]) -> Result<DescriptorPool, String> {
    let mut resolver = ChainFileResolver::new();
    resolver.add(Ordinary {
        files: IncludeFileResolver::new(folder.to_owned()),
        folder: folder.to_owned(),
        bytes_left: Cell::new(SOURCES_LIMIT),
        files_left: Cell::new(FILES_LIMIT),
    });
    resolver.add(GoogleFileResolver::new());
    let mut compiler = Compiler::with_file_resolver(resolver);
    compiler.include_imports(true);
    for file in files {
        compiler.open_file(file).map_err(|error| described(&error))?;
    }
    Ok(compiler.descriptor_pool())
}

/// A compiler error with the place it names, on one line.
fn described(error: &Error) -> String {
    let text = format!("{error:?}");
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The files of a folder, as long as they are ordinary.
struct Ordinary {
    files: IncludeFileResolver,
    folder: PathBuf,
    bytes_left: Cell<u64>,
    files_left: Cell<usize>,
}

impl Ordinary {
    fn check(&self, path: &Path) -> Result<(), String> {
        let Ok(found) = fs::metadata(path) else {
            // What that means, the compiler knows.
            return Ok(());
        };
        // To open a pipe is to wait for whoever writes to it.
        if !found.is_file() {
            return Err("it is no ordinary file".to_owned());
        }
        match self.bytes_left.get().checked_sub(found.len()) {
            Some(left) => self.bytes_left.set(left),
            None => return Err(format!("with it there are more than {SOURCES_LIMIT} bytes")),
        }
        match self.files_left.get().checked_sub(1) {
            Some(left) => self.files_left.set(left),
            None => return Err(format!("with it there are more than {FILES_LIMIT} files")),
        }
        let Ok(source) = fs::read(path) else { return Ok(()) };
        match too_deep(&source) {
            Some(line) => Err(format!("brackets are more than {DEPTH_LIMIT} deep in line {line}")),
            None => Ok(()),
        }
    }
}

impl FileResolver for Ordinary {
    fn resolve_path(&self, path: &Path) -> Option<String> {
        self.files.resolve_path(path)
    }

    fn open_file(&self, name: &str) -> Result<File, Error> {
        let path = self.folder.join(name);
        self.check(&path).map_err(|reason| {
            Error::new(io::Error::other(format!("{}: {reason}", path.display())))
        })?;
        self.files.open_file(name)
    }
}

/// In which line brackets are too deep in each other. Those in comments and strings do not count.
fn too_deep(source: &[u8]) -> Option<usize> {
    let (mut at, mut line, mut depth) = (0, 1, 0_usize);
    // Up to the end of what begins here and ends so.
    let skipped = |from: usize, end: &[u8]| {
        let rest = source.get(from..).unwrap_or_default();
        memchr::memmem::find(rest, end).map_or(source.len(), |found| from + found)
    };
    while let Some(&byte) = source.get(at) {
        match byte {
            b'\n' => line += 1,
            b'{' | b'<' | b'[' => depth += 1,
            b'}' | b'>' | b']' => depth = depth.saturating_sub(1),
            b'"' | b'\'' => {
                // No string goes on in the next line.
                let mut end = at + 1;
                while source.get(end).is_some_and(|&next| next != byte && next != b'\n') {
                    end += if source[end] == b'\\' { 2 } else { 1 };
                }
                at = if source.get(end) == Some(&byte) { end } else { end.saturating_sub(1) };
            }
            // That is how comments begin in the value of an option.
            b'#' => at = skipped(at, b"\n") - 1,
            b'/' if source.get(at + 1) == Some(&b'/') => at = skipped(at, b"\n") - 1,
            b'/' if source.get(at + 1) == Some(&b'*') => {
                let end = skipped(at + 2, b"*/");
                let comment = &source[at..end];
                line += memchr::memchr_iter(b'\n', comment).count();
                at = end + 1;
            }
            _ => {}
        }
        if depth > DEPTH_LIMIT {
            return Some(line);
        }
        at += 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_brackets_that_count_do() {
        let deep = |open: &str| format!("syntax;\n{}", open.repeat(DEPTH_LIMIT + 1));
        for open in ["{", "<", "[", "{ a ", "/* } */ {", "\"}\" {", "'\\'}' {", "# }\n{", "// }\n{"]
        {
            assert!(too_deep(deep(open).as_bytes()).is_some(), "{open}");
        }
        let open = "{".repeat(DEPTH_LIMIT - 1);
        for fine in ["{}", "// {\n", "/* {\n{ */", "\"{\\\"{\"", "'{'", "# {\n", "\"{\n"] {
            assert_eq!(too_deep((open.clone() + &fine.repeat(1000)).as_bytes()), None, "{fine}");
        }
        assert_eq!(too_deep(format!("\n/*\n*/\n{open}{{\n{{").as_bytes()), Some(5));
        for cut in ["\"", "'\\", "/*", "/", "#", "//"] {
            assert_eq!(too_deep(cut.as_bytes()), None);
        }
    }
}
