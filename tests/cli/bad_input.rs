//! Wrong arguments: exit code 2, one error, nothing written, before any device is opened.

use super::{NANO, program, run};

fn refused(args: &[&str], words: &[&str]) {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let mut command = program();
    // no driver: an argument error must not need one
    command.env("VK_DRIVER_FILES", "/nonexistent").env("VK_ICD_FILENAMES", "/nonexistent");
    command.arg("pretrain").args(args);
    if args.iter().all(|a| !a.starts_with("--output-dir") && *a != "--no-output") {
        command.arg("--output-dir").arg(&out);
    }
    run(command).fails(2, words);
    assert!(!out.exists(), "{args:?} left a folder");
}

#[test]
fn values_out_of_range() {
    for (args, words) in [
        (&["--model=gigantic"][..], &["model", "`gigantic`", "names, such as"][..]),
        (&["--model=map_tny_patch16_224"], &["model", "near it: map_tiny_patch16_224"]),
        (&["--image-size=60"], &["image_size", "60 with patches of 8", "multiple"]),
        (&["--patch-size=0"], &["patch_size", "got 0"]),
        (&["--image-size=0"], &["image_size", "got 0"]),
        (&["--pattern=MXT"], &["pattern", "`MXT`"]),
        (&["--heads=3"], &["heads", "got 3", "divisor"]),
        (&["--states=65"], &["states", "65", "1 to 64"]),
        (&["--mlp-ratio=nan"], &["mlp_ratio", "NaN"]),
        (&["--drop-path=1"], &["drop_path", "got 1"]),
        (&["--mask-ratio=1"], &["--mask-ratio", "got 1", "less than 1"]),
        (&["--mask-ratio", "-0.5"], &["--mask-ratio", "got -0.5"]),
        (&["--mask-ratio=nan"], &["--mask-ratio", "got NaN"]),
        (&["--mask-ratio=half"], &["--mask-ratio", "`half`", "truncnorm"]),
        (&["--mask-tokens=64"], &["--mask-tokens", "got 64", "fewer than the 64"]),
        (&["--method=difusion"], &["--method", "`difusion`", "near it: diffusion"]),
        (&["--method=mae", "--decoder=mae"], &["decoder", "Hybrid", "class token"]),
        (&["--method=contrastive", "--queue=100"], &["--queue", "got 100", "a multiple of --batch-size 64"]),
        (&["--method=contrastive", "--accum-iter=2"], &["--accum-iter", "got 2", "contrastive"]),
        (&["--method=diffusion", "--diffusion-width=0"], &["--diffusion-width", "got 0"]),
        (&["--temperature", "-1"], &["--temperature", "got -1"]),
        (&["--batch-size=0"], &["--batch-size", "got 0"]),
        (&["--batch-size=100000000000"], &["--batch-size", "100000000000"]),
        (&["--epochs=0"], &["--epochs", "got 0"]),
        (&["--blr=nan"], &["--blr", "NaN"]),
        (&["--blr", "-1"], &["--blr", "got -1"]),
        (&["--min-lr=7"], &["--min-lr", "got 7"]),
        (&["--warmup-epochs=nan"], &["--warmup-epochs", "NaN"]),
        (&["--weight-decay=2"], &["--weight-decay", "got 2"]),
        (&["--clip-grad=inf"], &["--clip-grad", "inf"]),
        (&["--log-every=0"], &["--log-every", "got 0"]),
        (&["--threads=99999"], &["--threads", "99999"]),
    ] {
        refused(&[&["--data=synthetic:8"], args].concat(), words);
    }
    refused(&["--data=synthetic:none"], &["none"]);
    refused(&["--data=synthetic:0"], &["0"]);
}

#[test]
fn unknown_words_and_missing_ones() {
    refused(&["--frobnicate"], &["--frobnicate"]);
    refused(&["--mask=zigzag"], &["zigzag", "random, sequential, diagonal"]);
    refused(&["--decoder-mask=rows"], &["rows", "local-mae"]);
    refused(&["--decode-order=spiral"], &["spiral", "columns"]);
    refused(&["--target=tokens"], &["tokens", "normalised"]);
    refused(&["--schedule=linear"], &["linear", "cosine"]);
    refused(&["--decay-rule=all"], &["all", "recommended"]);
    refused(&["--init=zeros"], &["zeros", "map-repo"]);
    refused(&["--batch-size=many"], &["many", "--batch-size"]);
    refused(NANO, &["--data", "got nothing"]);
    refused(&["--data=synthetic:8", "--no-output"], &["--no-output"]);
    let mut command = program();
    command.args(["pretrain", "--data=synthetic:8"]);
    run(command).fails(2, &["--output-dir", "got nothing"]);
    let mut command = program();
    command.args(["pretrain", "--resume"]);
    run(command).fails(2, &["--output-dir", "got nothing"]);
    let mut command = program();
    command.arg("train");
    run(command).fails(2, &["train"]);
}

#[test]
fn option_files() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("options.toml");
    for (text, words) in [
        ("batch-size = 0", &["--batch-size", "got 0"][..]),
        ("batchsize = 4", &["options.toml", "batchsize"]),
        ("batch-size = \"four\"", &["options.toml"]),
        ("batch-size = ", &["options.toml"]),
        ("mask = \"zigzag\"", &["zigzag", "random"]),
    ] {
        std::fs::write(&path, text).unwrap();
        refused(&["--data=synthetic:8", "--config", path.to_str().unwrap()], words);
    }
    let mut command = program();
    command.args(["pretrain", "--config", "/no/such/file.toml"]);
    run(command).fails(1, &["/no/such/file.toml"]);
    // the command line goes first
    std::fs::write(&path, "model = \"tiny\"\nbatch-size = 0").unwrap();
    let mut command = program();
    command.args(["pretrain", "--dry-run", "--batch-size=2", "--config", path.to_str().unwrap()]);
    assert!(run(command).ok().out.contains("model tiny"));
}
