//! Clients of others, generated from the protocol's files and built: once for all tests that run them.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use crate::{root, run, tool, workshop};

const PROTOS: [&str; 3] = ["bowline/v1/stream.proto", "bowline/v1/topic.proto", "bowline/v1/connection.proto"];

/// `protoc` as grpcio-tools ships it, for our three files.
fn protoc(python: &Path) -> Command {
    let mut command = Command::new(python);
    command.args(["-m", "grpc_tools.protoc", "-Iproto"]).current_dir(root());
    command
}

/// Python in the folder of its tests, with the generated code in its path; none if there is no Python.
pub fn python() -> Option<Command> {
    static GENERATED: OnceLock<Option<(PathBuf, PathBuf)>> = OnceLock::new();
    let (python, generated) = GENERATED.get_or_init(generate_python).as_ref()?;
    let mut command = Command::new(python);
    command.arg("-B").current_dir(root().join("tests/interop/python")).env("PYTHONPATH", generated);
    Some(command)
}

fn generate_python() -> Option<(PathBuf, PathBuf)> {
    let python = tool("python")?;
    let generated = workshop("python");
    run(protoc(&python)
        .arg(format!("--python_out={}", generated.display()))
        .args(PROTOS)
        .arg(format!("--grpc_python_out={}", generated.display())));
    Some((python, generated))
}

/// The Go tests, as a program: `-test.run` says which; none if there is no Go.
pub fn go() -> Option<Command> {
    static BUILT: OnceLock<Option<PathBuf>> = OnceLock::new();
    let mut command = Command::new(BUILT.get_or_init(build_go).as_ref()?);
    command.args(["-test.v", "-test.timeout=300s"]);
    Some(command)
}

fn build_go() -> Option<PathBuf> {
    let (go, python) = (tool("go")?, tool("python")?);
    let module = workshop("go");
    for entry in fs::read_dir(root().join("tests/interop/go")).expect("the Go client") {
        let path = entry.expect("a file").path();
        fs::copy(&path, module.join(path.file_name().expect("a name"))).expect("a copy");
    }
    let plugins = ["google.golang.org/protobuf/cmd/protoc-gen-go", "google.golang.org/grpc/cmd/protoc-gen-go-grpc"];
    run(Command::new(&go).args(["build", "-o", "bin/"]).args(plugins).current_dir(&module));
    let mut generate = protoc(&python);
    for (plugin, name) in [("go", "protoc-gen-go"), ("go-grpc", "protoc-gen-go-grpc")] {
        generate.arg(format!("--plugin={}", module.join("bin").join(name).display()));
        generate.arg(format!("--{plugin}_out={}", module.display()));
        generate.arg(format!("--{plugin}_opt=module=bowline.test/interop"));
        // The files name no Go package: that is the importer's business.
        generate.args(PROTOS.map(|file| format!("--{plugin}_opt=M{file}=bowline.test/interop/gen/bowline/v1")));
    }
    run(generate.args(PROTOS));
    let program = module.join("interop.test");
    run(Command::new(&go).args(["test", "-c", "-o"]).arg(&program).arg(".").current_dir(&module));
    Some(program)
}
