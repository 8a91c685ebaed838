//! Wrong arguments: exit code 2 and one error, before a device is opened or a file is written.

use super::{NANO, program, run};

fn refused(args: &[&str], words: &[&str]) {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let mut command = program();
    // without a driver, because an argument error must not need one
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
        (&["--pattern=MXT"], &["pattern", "`MXT`", "a string of M and T"]),
        (
            &["--model=vim_tiny_patch16_224", "--pattern=MT"],
            &["pattern of a Vim", "`MT`", "the letter M for each layer"],
        ),
        (&["--model=mambavision_micro", "--width=64"], &["width of a MambaVision", "got 64", "that of its last stage"]),
        (&["--heads=3"], &["heads", "got 3", "divisor"]),
        (&["--states=65"], &["states", "65", "1 to 64"]),
        (&["--mlp-ratio=nan"], &["mlp_ratio", "NaN"]),
        (&["--drop-path=1"], &["drop_path", "got 1"]),
        (&["--position-scale=0"], &["position_scale", "got 0"]),
        (&["--target-eps=0"], &["target_eps", "got 0", "1e-12 to 1"]),
        (&["--mask-token-std=-1"], &["mask_token_std", "got -1"]),
        (&["--mask-ratio=1"], &["--mask-ratio", "got 1", "less than 1"]),
        (&["--mask-ratio", "-0.5"], &["--mask-ratio", "got -0.5"]),
        (&["--mask-ratio=nan"], &["--mask-ratio", "got NaN"]),
        (&["--mask-ratio=half"], &["--mask-ratio", "`half`", "truncnorm"]),
        (&["--mask-tokens=64"], &["--mask-tokens", "got 64", "fewer than the 64"]),
        (&["--method=difusion"], &["--method", "`difusion`", "near it: diffusion"]),
        (&["--method=mae", "--decoder=mae"], &["decoder", "Hybrid", "class token"]),
        (&["--method=contrastive", "--queue=100"], &["--queue", "got 100", "a multiple of --batch-size 8"]),
        (
            &["--method=contrastive", "--queue=200", "--accum-iter=2"],
            &["--queue", "got 200", "--batch-size 8 times --accum-iter 2"],
        ),
        (&["--method=diffusion", "--diffusion-width=0"], &["--diffusion-width", "got 0"]),
        (&["--method=contrastive", "--temperature", "-1"], &["--temperature", "got -1"]),
        (&["--batch-size=0"], &["--batch-size", "got 0"]),
        (&["--batch-size=100000000000"], &["--batch-size", "100000000000"]),
        (&["--epochs=0"], &["--epochs", "got 0"]),
        (&["--blr=nan"], &["--blr", "NaN"]),
        (&["--blr", "-1"], &["--blr", "got -1"]),
        (&["--min-lr=7"], &["--min-lr", "got 7"]),
        (&["--warmup-epochs=nan"], &["--warmup-epochs", "NaN"]),
        (&["--weight-decay=2"], &["--weight-decay", "got 2"]),
        (&["--clip-grad=inf"], &["--clip-grad", "inf"]),
        (&["--batch-size", "-1"], &["'-1'", "--batch-size", "expected a whole number, 0 or more"]),
        (&["--epochs=1.5"], &["'1.5'", "--epochs", "expected a whole number, 0 or more"]),
        (&["--seed=99999999999999999999"], &["--seed", "expected a smaller number"]),
        (&["--drop-path", "-0.1"], &["drop_path", "got -0.1"]),
        (&["--hflip=often"], &["'often'", "--hflip", "expected a number"]),
        (&["--num-groups", "-1"], &["'-1'", "--num-groups", "expected a whole number, 0 or more"]),
        (&["--log-every=0"], &["--log-every", "got 0"]),
        (&["--threads=99999"], &["--threads", "99999"]),
    ] {
        refused(&[&["--data=synthetic:8"], args].concat(), words);
    }
    refused(&["--data=synthetic:none"], &["none"]);
    refused(&["--data=synthetic:0"], &["0"]);
}

/// Options that would change nothing in a run.
const UNUSED: &[(&[&str], &[&str])] = &[
    (&["--target=raw", "--target-eps=0.01"], &["--target-eps", "got 0.01", "--target normalized with it"]),
    (&["--method=contrastive", "--target-eps=0.01"], &["--target-eps", "0.01 for the method contrastive"]),
    (&["--method=contrastive", "--decoder-depth=1"], &["--decoder-depth", "a method with a decoder: map, mae"]),
    (&["--method=contrastive", "--mask-token-std=0.1"], &["--mask-token-std", "0.1 for the method contrastive"]),
    (&["--probe-images=100"], &["--probe-images", "got 100", "--probe-every with it"]),
    (&["--aa=rand-m9", "--color-jitter=0.3"], &["--color-jitter", "got 0.3", "--aa none with it"]),
    (&["--model=map3d_micro", "--aa=rand-m9"], &["--aa", "got rand-m9", "a model on images"]),
    (&["--model=map3d_micro", "--hflip=0.5"], &["--hflip", "got 0.5", "a model on images"]),
    (&["--model=map3d_micro", "--target=raw"], &["--target", "got raw", "a model on images"]),
    (&["--lr=0.1", "--blr=0.1"], &["--blr", "got 0.1", "no --lr 0.1 with it"]),
    (&["--schedule=map_repo", "--blr=0.1"], &["--blr", "got 0.1", "another --schedule than map_repo"]),
    (&["--model=resnet_micro", "--patch-size=8"], &["--patch-size of resnet_micro", "got 8", "hybrid, vim, vit"]),
    (&["--model=vit_micro_patch4_32", "--states=8"], &["--states of vit_micro", "got 8", "hybrid, vim"]),
];

#[test]
fn options_without_effect() {
    for (args, words) in UNUSED {
        refused(&[&["--data=synthetic:8"], *args].concat(), words);
    }
    // in a file too, by its name; but it is not blamed for what the command line decides
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("options.toml");
    let file = path.to_str().unwrap();
    for (text, words) in [
        ("mask-ratio = 0.5\nmask-tokens = 4", &["`mask-ratio` in", "options.toml", "no --mask-tokens 4 beside it"][..]),
        ("target = \"raw\"\ntarget-eps = 0.01", &["`target-eps` in", "options.toml", "got 0.01"]),
        ("probe-images = 100", &["`probe-images` in", "--probe-every with it"]),
        ("model = \"resnet_micro\"\nstates = 8", &["--states of resnet_micro", "got 8"]),
    ] {
        std::fs::write(&path, text).unwrap();
        refused(&["--data=synthetic:8", "--config", file], words);
    }
    for (text, args) in [
        ("target-eps = 0.01\nmask-ratio = 0.75", &["--method=contrastive", "--batch-size=64"][..]),
        ("color-jitter = 0.3", &["--aa=rand-m9"]),
        ("color-jitter = 0.0\naa = \"rand-m9\"", &[]),
        ("blr = 0.1", &["--lr=0.1"]),
        ("lr = 0.1", &["--blr=0.1"]),
    ] {
        std::fs::write(&path, text).unwrap();
        let mut command = program();
        run({
            command.args(["pretrain", "--dry-run", "--config", file]).args(args);
            command
        })
        .ok();
    }
}

/// A run reads back what it wrote of itself, which is every option.
#[test]
fn the_record_of_a_run_wishes_for_nothing() {
    if super::skip() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let short = ["--data=synthetic:8", "--batch-size=4", "--epochs=2", "--grid-every=0", "--mask-tokens=4"];
    run(super::pretrain(&at("out"), &[&short[..], &["--target=raw", "--aa=rand-m9"]].concat())).ok();
    let record = at("out/pretrain.toml");
    let text = std::fs::read_to_string(&record).unwrap();
    for option in ["target-eps", "color-jitter", "mask-ratio", "probe-images"] {
        assert!(text.contains(&format!("\n{option} = ")), "{text}");
    }
    let paths = [("--resume", &*at("out/checkpoint-1")), ("--config", &record), ("--output-dir", &at("again"))];
    super::rowscan(&["pretrain"], &paths).ok();
    super::rowscan(&["pretrain", "--dry-run", "--method=ar-shift"], &paths[1..2]).ok();
}

/// Several processes: how many, for which commands, and a launcher that is not there.
#[test]
fn processes_that_cannot_be() {
    refused(&["--gpus=0"], &["--gpus", "got `0`", "or `all`"]);
    refused(&["--gpus=two"], &["--gpus", "got `two`"]);
    refused(&["--exchange-timeout=0"], &["--exchange-timeout", "got 0"]);
    let alone = |command: &mut std::process::Command| {
        for name in ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "PMIX_RANK"] {
            command.env_remove(name);
        }
    };
    let mut command = program();
    alone(command.args(["info", "--gpus=2"]));
    run(command).fails(2, &["--gpus", "other commands take one GPU"]);
    let mut command = program();
    alone(command.args(["eval", "--gpus=2", "--checkpoint=a", "--data=b"]).env("PATH", "/nonexistent"));
    run(command).fails(2, &["--gpus", "got 2", "an MPI launcher in PATH", "openmpi-bin"]);
    let mut command = program();
    command.args(["eval", "--checkpoint=a", "--data=b"]).env("OMPI_COMM_WORLD_SIZE", "2");
    command.env("ROWSCAN_MPI", "/nonexistent/libmpi.so");
    let hints = ["Open MPI started 2 processes, but no MPI library was found", "/nonexistent/libmpi.so"];
    run(command).fails(1, &hints);
    let mut command = program();
    alone(command.args(["bench", "--family=exchange"]));
    if !super::skip() {
        run(command).fails(2, &["family exchange", "one process"]);
    }
}

#[test]
fn unknown_words_and_missing_ones() {
    refused(&["--frobnicate"], &["--frobnicate"]);
    refused(&["--mask=zigzag"], &["zigzag", "random, sequential, diagonal"]);
    refused(&["--decoder-mask=rows"], &["rows", "local-mae"]);
    refused(&["--decode-order=spiral"], &["spiral", "columns"]);
    refused(&["--target=tokens"], &["tokens", "normalized"]);
    refused(&["--schedule=lines"], &["lines", "cosine"]);
    refused(&["--decay-rule=all"], &["all", "recommended"]);
    refused(&["--init=zeros"], &["zeros", "map_repo"]);
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
        ("batchsize = 4", &["options.toml", "`batchsize`", "near it: batch-size"]),
        ("batch-size = \"four\"", &["options.toml", "`batch-size`", "\"four\"", "expected usize"]),
        ("mask-ratio = \"half\"", &["options.toml", "`mask-ratio`", "`half`", "truncnorm"]),
        ("init = \"zeros\"", &["options.toml", "`init`", "zeros", "map_repo"]),
        ("resume = true", &["options.toml", "`resume`"]),
        ("batch-size = ", &["options.toml"]),
        ("mask = \"zigzag\"", &["zigzag", "random"]),
    ] {
        std::fs::write(&path, text).unwrap();
        refused(&["--data=synthetic:8", "--config", path.to_str().unwrap()], words);
    }
    let mut command = program();
    command.args(["pretrain", "--config", "/no/such/file.toml"]);
    run(command).fails(1, &["/no/such/file.toml"]);
    // the command line overrides the file
    std::fs::write(&path, "model = \"tiny\"\nbatch-size = 0").unwrap();
    let mut command = program();
    command.args(["pretrain", "--dry-run", "--batch-size=2", "--config", path.to_str().unwrap()]);
    assert!(run(command).ok().out.contains("model tiny"));
}

/// A `pretrain.toml` of the first version, which wrote words with hyphens, and pairs of numbers as text.
const OLD_FILE: &str = r#"
data = "synthetic:8"
output-dir = "out"
max-images = 0
batch-size = 4
accum-iter = 1
epochs = 3
blr = 0.02
min-lr = 0.0
warmup-epochs = 1.0
schedule = "map_repo"
weight-decay = 0.05
decay-rule = "map_repo"
clip-grad = 0.0
seed = 5
checkpoint-blocks = false
precision = "f32"
log-every = 1
save-every-steps = 0
keep = 0
threads = 0
model = "micro"
image-size = 16
patch-size = 4
width = 16
pattern = "MMT"
heads = 2
mlp-ratio = 2.0
states = 4
classes = 2
decoder = "map"
decoder-width = 16
decoder-depth = 1
decoder-heads = 2
extra-residual = true
order = "rows"
positions = "sin-cos"
pool = "registers"
drop-path = 0.3
init = "map-repo"
crop-scale = "0.2,1"
hflip = 0.5
aa = "none"
three-augment = false
color-jitter = 0.0
reprob = 0.0
method = "local-mae"
mask = "random"
mask-ratio = "truncnorm"
target = "normalised"
diffusion-width = 256
diffusion-depth = 3
diffusion-repeats = 4
no-vlb = false
queue = 65536
temperature = 0.2
key-momentum = 0.999
grid-every = 0
"#;

#[test]
fn old_option_files_and_all_spellings_of_words_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("options.toml");
    let plan = |text: &str, args: &[&str]| {
        std::fs::write(&path, text).unwrap();
        let mut command = program();
        command.args(["pretrain", "--dry-run", "--config", path.to_str().unwrap()]).args(args);
        run(command).ok().out
    };
    let said = plan(OLD_FILE, &[]);
    assert!(said.contains("model micro") && said.contains("local-mae") && said.contains("step of 4 images"), "{said}");
    // the drawn ratio hides at least 0.3 of the 16 patches, rounded up to 5: at most 11 are visible
    assert!(said.contains("11 of 16 tokens visible"), "{said}");
    let snake: String = OLD_FILE.lines().map(|line| line.replace('-', "_") + "\n").collect();
    assert_eq!(plan(&snake, &[]), said, "underscores for hyphens, in keys and words");
    assert_eq!(plan(OLD_FILE, &["--init=map_repo", "--positions=sin_cos", "--schedule=map-repo"]), said);
    // a number of tokens overrides a ratio from the file, and a ratio a number
    let counted = plan(OLD_FILE, &["--mask-tokens=4"]);
    assert!(counted.contains("12 of 16 tokens visible"), "{counted}");
    let shared = plan("mask-tokens = 4\nimage-size = 16\npatch-size = 4", &["--mask-ratio=0.5"]);
    assert!(shared.contains("8 of 16 tokens visible"), "{shared}");
}
