//! Compiles `proto/` with protox, so that no `protoc` is needed, and writes the descriptor set that reflection serves.

use std::{env, fs, path::PathBuf};

const FILES: [&str; 4] =
    ["bowline/v1/stream.proto", "bowline/v1/topic.proto", "bowline/v1/connection.proto", "grpc/health/v1/health.proto"];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=proto");
    println!("cargo::rerun-if-changed=config.default.toml");
    let mut compiler = protox::Compiler::new(["proto"])?;
    compiler.include_source_info(true).include_imports(true);
    compiler.open_files(FILES)?;

    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("descriptor.bin"), compiler.encode_file_descriptor_set())?;
    let mut names = tonic_prost_build::Config::new();
    names.enable_type_names();
    tonic_prost_build::configure()
        // Payloads and keys are slices of the received buffer, not copies.
        .bytes(".")
        // The larger arms of the frame oneofs would otherwise set the size of every frame.
        .boxed(".bowline.v1.StreamDataRequest.frame.open_session")
        .boxed(".bowline.v1.StreamDataRequest.frame.publish")
        // Requests are weighed before they are made.
        .codec_path("crate::proto::Codec")
        // Their tokens must not end up in a log by accident: `proto::redacted` shows the rest of them.
        .skip_debug([".bowline.v1.Hello", ".bowline.v1.Authenticate"])
        .compile_fds_with_config(compiler.file_descriptor_set(), names)?;

    let version = env::var("BOWLINE_GIT_REVISION").unwrap_or_default();
    println!("cargo::rerun-if-env-changed=BOWLINE_GIT_REVISION");
    println!("cargo::rustc-env=BOWLINE_GIT_REVISION={version}");
    Ok(())
}
