//! A source file, seen as plain text: what is code and what is comment, string or inline test; and the paths it uses.

use std::{fs, path::Path};

/// One file.
pub struct Source {
    /// Path from the root of the repository, with `/`.
    pub path: String,
    /// As it stands.
    pub text: String,
    /// The same, character for character, with comments, literals and inline tests blanked.
    pub code: String,
}

impl Source {
    /// A file that exists only in a test.
    pub fn planted(path: &str, text: &str) -> Self {
        let mut code = blank_comments_and_literals(text);
        blank_inline_tests(&mut code);
        Self { path: path.to_owned(), text: text.to_owned(), code: code.into_iter().collect() }
    }

    /// Every file with this extension under `folder`, ordered by path.
    pub fn under(folder: &str, extension: &str) -> Vec<Self> {
        let mut found = Vec::new();
        let mut folders = vec![root().join(folder)];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).into_iter().flatten() {
                let path = entry.expect("a readable folder").path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|e| e == extension) {
                    let text = fs::read_to_string(&path).expect("a readable file");
                    let name = path.strip_prefix(root()).expect("inside the repository");
                    found.push(Self::planted(&name.to_string_lossy(), &text));
                }
            }
        }
        found.sort_by(|a, b| a.path.cmp(&b.path));
        found
    }

    /// Whether all of it is test: `foo/tests.rs`, what stands in `foo/tests/`, and the simulation. Tests may use what
    /// they like.
    pub fn is_test(&self) -> bool {
        let whole = ["src/sim.rs", "src/sim/"];
        self.path.ends_with("/tests.rs")
            || self.path.contains("/tests/")
            || whole.iter().any(|whole| self.path.starts_with(whole))
    }

    /// Modules from the crate's root down to this file: `["cli", "serve"]` for `src/cli/serve.rs`; `["main"]` and
    /// `["lib"]` for the two roots.
    pub fn module(&self) -> Vec<&str> {
        let inner = self.path.trim_start_matches("src/").trim_end_matches(".rs");
        inner.split('/').collect()
    }

    /// Paths into this crate that the file names, from the crate's root: `["config", "Config"]`. From `use` trees and
    /// from expressions, through `crate::`, `bowline::` (in `main.rs`) or enough `super::`.
    pub fn crate_paths(&self) -> Vec<Vec<String>> {
        let mut found = Vec::new();
        for start in ["crate::", "bowline::"] {
            for at in self.words(start) {
                read_tree(&self.code[at + start.len()..], &mut Vec::new(), &mut found);
            }
        }
        for at in self.words("super::") {
            // Only the first `super` of a chain.
            if self.code[..at].ends_with("super::") {
                continue;
            }
            let (mut rest, mut ups) = (&self.code[at..], 0);
            while let Some(after) = rest.strip_prefix("super::") {
                (rest, ups) = (after, ups + 1);
            }
            let mut base: Vec<String> = self.module().iter().map(|&m| m.to_owned()).collect();
            base.truncate(base.len().saturating_sub(ups));
            read_tree(rest, &mut base, &mut found);
        }
        found
    }

    /// Byte positions where `text` begins in code, not in the middle of a longer name.
    pub fn words(&self, text: &str) -> Vec<usize> {
        let longer = |at: usize| self.code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
        self.code.match_indices(text).map(|(at, _)| at).filter(|&at| !longer(at)).collect()
    }

    /// `path:line` of a byte position.
    pub fn place(&self, at: usize) -> String {
        format!("{}:{}", self.path, self.code[..at].lines().count().max(1))
    }

    /// Lines, inline tests apart.
    pub fn lines(&self) -> usize {
        let tests = self.text.find("#[cfg(test)]\nmod ").unwrap_or(self.text.len());
        self.text[..tests].trim_end().lines().count()
    }

    /// Name, place and number of lines of each function with a body.
    pub fn functions(&self) -> Vec<(String, String, usize)> {
        let body = |at: usize| {
            let rest = &self.code[at + 3..];
            let name: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            let open = end_of_signature(rest).filter(|&at| rest[at..].starts_with('{'))?;
            let close = open + matching_brace(&rest[open..])?;
            (!name.is_empty()).then(|| (name, self.place(at), rest[..close].lines().count()))
        };
        self.words("fn ").into_iter().filter_map(body).collect()
    }
}

/// The repository.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Position of the `{` or `;` after a function's signature; a `;` inside brackets belongs to an array type.
fn end_of_signature(code: &str) -> Option<usize> {
    let mut depth = 0_i32;
    code.char_indices().find_map(|(at, c)| {
        match c {
            '(' | '[' => depth += 1,
            ')' | ']' => depth -= 1,
            _ => {}
        }
        (depth == 0 && matches!(c, '{' | ';')).then_some(at)
    })
}

/// Position of the brace that closes the one `code` begins with.
fn matching_brace(code: &str) -> Option<usize> {
    let mut depth = 0_usize;
    for (at, c) in code.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 1 => return Some(at),
            '}' => depth -= 1,
            _ => {}
        }
    }
    None
}

/// Reads `a::{b, c::d}` into `[a, b]` and `[a, c, d]`, each after what `prefix` holds; returns what is left.
fn read_tree<'a>(code: &'a str, prefix: &mut Vec<String>, found: &mut Vec<Vec<String>>) -> &'a str {
    let code = code.trim_start();
    if let Some(mut rest) = code.strip_prefix('{') {
        loop {
            rest = rest.trim_start();
            if let Some(after) = rest.strip_prefix('}') {
                return after;
            }
            let before = rest.len();
            rest = read_tree(rest, &mut prefix.clone(), found).trim_start();
            // ` as other`, and the comma.
            let next = rest.find([',', '}']).unwrap_or(rest.len());
            rest = rest[next..].trim_start_matches(',');
            if rest.len() == before || rest.is_empty() {
                return rest;
            }
        }
    }
    let end = code.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == '*')).unwrap_or(code.len());
    let (name, rest) = code.split_at(end);
    if !name.is_empty() && name != "self" {
        prefix.push(name.to_owned());
    }
    match rest.strip_prefix("::") {
        Some(more) if !more.starts_with('<') && !name.is_empty() => read_tree(more, prefix, found),
        _ => {
            found.push(prefix.clone());
            rest
        }
    }
}

/// Blanks `#[cfg(test)]` modules, which may import what they like.
fn blank_inline_tests(code: &mut [char]) {
    let text: String = code.iter().collect();
    let mut from = 0;
    while let Some(at) = text[from..].find("#[cfg(test)]").map(|i| i + from) {
        from = at + 1;
        let Some(open) = text[at..].find(['{', ';']).map(|i| i + at) else { continue };
        let Some(close) = matching_brace(&text[open..]).map(|i| i + open) else { continue };
        let chars = |bytes: usize| text[..bytes].chars().count();
        blank(&mut code[chars(at)..=chars(close)]);
    }
}

/// Blanks comments and the inside of string and character literals.
fn blank_comments_and_literals(text: &str) -> Vec<char> {
    let mut code: Vec<char> = text.chars().collect();
    let mut at = 0;
    while at < code.len() {
        let length = match (code[at], code.get(at + 1)) {
            ('/', Some('/')) => code[at..].iter().position(|&c| c == '\n').unwrap_or(code.len() - at),
            ('/', Some('*')) => block_comment(&code[at..]),
            ('"', _) => string(&code[at..]),
            ('r', Some('"' | '#')) if !at.checked_sub(1).is_some_and(|i| is_name(code[i])) => raw_string(&code[at..]),
            ('\'', Some('\\')) => 3 + code[at + 3..].iter().position(|&c| c == '\'').unwrap_or(0),
            ('\'', Some(_)) if code.get(at + 2) == Some(&'\'') => 2,
            _ => 0,
        };
        let end = (at + length).min(code.len());
        blank(&mut code[at..end]);
        at = end.max(at + 1);
    }
    code
}

fn is_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Blanks all but line ends, so that positions and line numbers stay.
fn blank(code: &mut [char]) {
    code.iter_mut().filter(|c| **c != '\n').for_each(|c| *c = ' ');
}

fn block_comment(code: &[char]) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at + 1 < code.len() {
        match (code[at], code[at + 1]) {
            ('/', '*') => (depth, at) = (depth + 1, at + 2),
            ('*', '/') if depth == 1 => return at + 2,
            ('*', '/') => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
    }
    code.len()
}

fn string(code: &[char]) -> usize {
    let mut at = 1;
    while at < code.len() {
        match code[at] {
            '\\' => at += 2,
            '"' => return at + 1,
            _ => at += 1,
        }
    }
    code.len()
}

/// Length of `r"…"` or `r#"…"#`; 0 if it is neither (`r#type`).
fn raw_string(code: &[char]) -> usize {
    let hashes = code[1..].iter().take_while(|&&c| c == '#').count();
    if code.get(1 + hashes) != Some(&'"') {
        return 0;
    }
    let end =
        |at: usize| code[at] == '"' && code[at + 1..].iter().take(hashes).filter(|&&c| c == '#').count() == hashes;
    (2 + hashes..code.len()).find(|&at| end(at)).map_or(code.len(), |at| at + 1 + hashes)
}
