//! The ladder of examples, each run as it is: the files themselves are modules here.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;

use rowscan::run::checkpoint;

use crate::cli::skip;

macro_rules! examples {
    ($($path:literal $name:ident),*) => {
        $(#[path = $path] #[allow(dead_code, reason = "tests call what `main` calls")] mod $name;)*
    };
}

examples! {
    "../examples/01_tensor.rs" tensor,
    "../examples/02_autograd.rs" autograd,
    "../examples/03_scan.rs" scan,
    "../examples/04_pretrain_tiny.rs" pretrain_tiny,
    "../examples/05_augment.rs" augment,
    "../examples/06_own_operator.rs" own_operator,
    "../examples/07_own_model.rs" own_model,
    "../examples/08_own_method.rs" own_method,
    "../examples/09_serve_features.rs" serve_features
}

#[test]
fn every_example_is_in_this_file() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let names = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let here = include_str!("examples.rs");
    for name in names.filter(|name| name.ends_with(".rs")) {
        assert!(here.contains(&format!("\"../examples/{name}\"")), "{name} is run by no test");
    }
}

#[test]
fn tensors_gradients_and_a_scan() {
    if skip() {
        return;
    }
    tensor::main().unwrap();
    autograd::main().unwrap();
    scan::main().unwrap();
}

#[test]
fn own_operator_has_its_gradient() {
    if skip() {
        return;
    }
    let worst = own_operator::run().unwrap();
    // central differences of a square have no error but rounding: 1e-6 of the loss over a step of 0.1
    assert!(worst < 1e-3, "{worst}");
}

#[test]
fn pretraining_and_own_models_learn() {
    if skip() {
        return;
    }
    let (first, last) = pretrain_tiny::run(20).unwrap();
    assert!(last < first, "{first} → {last}");
    let (first, last) = own_model::run(80).unwrap();
    assert!((first - 10f32.ln()).abs() < 0.4, "{first}: its scores start at zero");
    assert!(last < first - 0.2, "{first} → {last}");
}

#[test]
fn augmented_images_are_drawn() {
    let dir = tempfile::tempdir().unwrap();
    let png = dir.path().join("augment.png");
    augment::run("synthetic:16", 24, &png).unwrap();
    // evaluation, three draws of three recipes, a mixture: 11 pictures of 24 pixels, 2 between them
    assert_eq!(image::open(&png).unwrap().into_rgb8().dimensions(), (11 * 26 - 2, 8 * 26 - 2));
}

/// What a server answers to these bytes: the status and the body.
fn answer(address: &str, bytes: &[u8]) -> (String, serde_json::Value) {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "POST / HTTP/1.1\r\nHost: here\r\nContent-Length: {}\r\n\r\n", bytes.len()).unwrap();
    stream.write_all(bytes).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    (head.lines().next().unwrap().to_owned(), serde_json::from_str(body).unwrap())
}

/// An own method pretrains a backbone, whose features are then served.
#[test]
fn own_method_and_its_features_over_http() {
    if skip() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("rotations");
    let (first, last) = own_method::run(40, &folder).unwrap();
    assert!((first - 4f32.ln()).abs() < 0.4 && last < first, "{first} → {last}");
    assert!(checkpoint::weights(&folder).unwrap().keys().all(|name| !name.starts_with("head.")));

    let picture = dir.path().join("a.png");
    image::RgbImage::from_fn(40, 40, |x, y| image::Rgb([x as u8 * 6, y as u8 * 6, 90])).save(&picture).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let client = std::thread::spawn(move || {
        let png = std::fs::read(picture).unwrap();
        [answer(&address, &png), answer(&address, b"no picture"), answer(&address, b""), answer(&address, &png)]
    });
    serve_features::serve(&folder, &listener, 4).unwrap();
    let [good, torn, empty, again] = client.join().unwrap();
    assert_eq!((good.0.as_str(), good.1["features"].as_array().unwrap().len()), ("HTTP/1.1 200 OK", 32));
    assert_eq!(good, again, "the same image, the same features");
    for wrong in [torn, empty] {
        assert!(wrong.0.contains("400") && wrong.1["error"].is_string(), "{wrong:?}");
    }
}
