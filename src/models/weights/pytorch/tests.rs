//! Files as `torch.save` writes them, made by hand: each case in both forms.

use super::*;

/// The bytes of a pickle, an instruction at a time.
#[derive(Clone, Default)]
pub(super) struct Pickle(pub Vec<u8>);

impl Pickle {
    pub fn op(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    pub fn text(self, text: &str) -> Self {
        let len = (text.len() as u32).to_le_bytes();
        self.op(b"X").op(&len).op(text.as_bytes())
    }

    pub fn number(self, number: usize) -> Self {
        self.op(b"\x8a\x08").op(&(number as u64).to_le_bytes())
    }

    pub fn class(self, module: &str, name: &str) -> Self {
        self.op(format!("c{module}\n{name}\n").as_bytes())
    }

    fn numbers(self, numbers: &[usize]) -> Self {
        numbers.iter().fold(self.op(b"("), |pickle, number| pickle.number(*number)).op(b"t")
    }

    /// `torch._utils._rebuild_tensor_v2(storage, offset, shape, strides, False, OrderedDict())`
    pub fn tensor(self, class: &str, key: &str, len: usize, offset: usize, shape: &[usize], strides: &[usize]) -> Self {
        self.class("torch._utils", "_rebuild_tensor_v2")
            .op(b"((")
            .text("storage")
            .class("torch", class)
            .text(key)
            .text("cpu")
            .number(len)
            .op(b"tQ")
            .number(offset)
            .numbers(shape)
            .numbers(strides)
            .op(b"\x89")
            .class("collections", "OrderedDict")
            .op(b")RtR")
    }

    /// A dictionary of entries, which are pickles.
    pub fn dictionary(self, entries: &[(&str, Self)]) -> Self {
        let start = self.op(b"}(");
        entries.iter().fold(start, |pickle, (name, value)| pickle.text(name).op(&value.0)).op(b"u")
    }
}

type Storages<'a> = &'a [(&'a str, Vec<u8>, usize)];

/// The zip form.
pub(super) fn zipped(object: &Pickle, storages: Storages<'_>) -> Vec<u8> {
    let pickle = Pickle(b"\x80\x02".to_vec()).op(&object.0).op(b".").0;
    let mut entries = vec![("m/data.pkl".to_string(), pickle), ("m/byteorder".into(), b"little".to_vec())];
    entries.extend(storages.iter().map(|(key, bytes, _)| (format!("m/data/{key}"), bytes.clone())));
    let (mut file, mut directory) = (Vec::new(), Vec::new());
    for (name, data) in &entries {
        let (at, size) = (file.len() as u32, (data.len() as u32).to_le_bytes());
        let lengths = [&[0; 4][..], &size, &size, &(name.len() as u16).to_le_bytes(), &[0; 2]].concat();
        file.extend(
            [b"PK\x03\x04\x14\x00\x00\x00\x00\x00\x00\x00\x00\x00", &lengths[..], name.as_bytes(), data].concat(),
        );
        directory.extend([b"PK\x01\x02\x14\x00\x14\x00\x00\x00\x00\x00\x00\x00\x00\x00", &lengths[..]].concat());
        directory.extend([&[0; 10][..], &at.to_le_bytes(), name.as_bytes()].concat());
    }
    let (start, count) = ((file.len() as u32).to_le_bytes(), (entries.len() as u16).to_le_bytes());
    let size = (directory.len() as u32).to_le_bytes();
    let end = [b"PK\x05\x06\x00\x00\x00\x00", &count[..], &count, &size, &start, &[0, 0]].concat();
    [file, directory, end].concat()
}

/// The form before PyTorch 1.6.
pub(super) fn legacy(object: &Pickle, storages: Storages<'_>) -> Vec<u8> {
    let start = Pickle(b"\x80\x02".to_vec());
    let magic = start.clone().op(&[0x8a, 0x0a, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19]).op(b".");
    let version = start.clone().op(b"M\xe9\x03.");
    let machine = start.clone().dictionary(&[("little_endian", Pickle::default().op(b"\x88"))]).op(b".");
    let keys = storages.iter().fold(start.clone().op(b"]("), |pickle, (key, ..)| pickle.text(key)).op(b"e.");
    let mut file = [magic, version, machine, start.op(&object.0).op(b"."), keys].map(|pickle| pickle.0).concat();
    for (_, bytes, size) in storages {
        file.extend((bytes.len() as u64 / *size as u64).to_le_bytes());
        file.extend(bytes);
    }
    file
}

fn floats(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// Reads an object in both forms, which have to agree.
fn read(object: &Pickle, storages: Storages<'_>, key: Option<&str>) -> Result<StateDict> {
    let (new, old) = (read_pytorch(&zipped(object, storages), key), read_pytorch(&legacy(object, storages), key));
    if new.is_ok() || old.is_ok() {
        assert_eq!(new, old);
    }
    new
}

#[test]
fn tensors_are_read_by_storage_offset_and_strides() {
    let storage: Vec<f32> = (0..24).map(|i| i as f32 - 3.5).collect();
    let one = [("0", floats(&storage), 4)];
    for (offset, shape, strides) in [
        (0, vec![2, 3, 4], vec![12, 4, 1]),
        (5, vec![2, 3], vec![3, 1]),
        (0, vec![4, 6], vec![1, 4]),
        (1, vec![3, 2, 2], vec![1, 12, 6]),
        (23, vec![], vec![]),
        (2, vec![7], vec![3]),
        (0, vec![3, 2], vec![0, 1]),
        (0, vec![0, 4], vec![4, 1]),
        (9, vec![1, 1, 5], vec![77, 99, 2]),
    ] {
        let tensor = Pickle::default().tensor("FloatStorage", "0", 24, offset, &shape, &strides);
        let whole = Pickle::default().tensor("FloatStorage", "0", 24, 0, &[24], &[1]);
        let found = read(&Pickle::default().dictionary(&[("w", tensor), ("all", whole)]), &one, None).unwrap();
        let mut expected = vec![];
        let count: usize = shape.iter().product();
        for mut flat in 0..count {
            let mut at = offset;
            for (size, stride) in shape.iter().zip(&strides).rev() {
                at += flat % size * stride;
                flat /= size;
            }
            expected.push(storage[at]);
        }
        assert_eq!(found.weights["w"], (shape, expected));
        assert_eq!(found.weights["all"].1, storage);
    }
}

#[test]
fn every_type_of_number_is_widened_and_integers_are_left_out() {
    let values = [0.5f32, -2.0, 1.25, 65_504.0];
    let of = |convert: &dyn Fn(f32) -> Vec<u8>| values.iter().flat_map(|v| convert(*v)).collect::<Vec<u8>>();
    let storages = [
        ("f16", of(&|v| half::f16::from_f32(v).to_le_bytes().to_vec()), 2),
        ("bf16", of(&|v| half::bf16::from_f32(v).to_le_bytes().to_vec()), 2),
        ("f32", of(&|v| v.to_le_bytes().to_vec()), 4),
        ("f64", of(&|v| f64::from(v).to_le_bytes().to_vec()), 8),
        ("i64", of(&|v| (v as i64).to_le_bytes().to_vec()), 8),
        ("bool", vec![1, 0, 1, 1], 1),
    ];
    let classes = ["HalfStorage", "BFloat16Storage", "FloatStorage", "DoubleStorage", "LongStorage", "BoolStorage"];
    let tensor = |i: usize| Pickle::default().tensor(classes[i], storages[i].0, 4, 0, &[4], &[1]);
    let entries: Vec<_> = (0..6).map(|i| (storages[i].0, tensor(i))).collect();
    let found = read(&Pickle::default().dictionary(&entries), &storages, None).unwrap();
    assert_eq!(found.weights.keys().collect::<Vec<_>>(), ["bf16", "f16", "f32", "f64"]);
    for (name, (_, got)) in &found.weights {
        let exact = values.iter().map(|v| if name == "bf16" { half::bf16::from_f32(*v).to_f32() } else { *v });
        assert_eq!(*got, exact.collect::<Vec<_>>(), "{name}");
    }
    assert_eq!(found.left_out, ["left out 2 tensors of integers: i64, bool"]);
}

#[test]
fn the_dictionary_of_weights_is_found_or_named() {
    let storages = [("a", floats(&[1.0, 2.0]), 4), ("b", floats(&[3.0, 4.0]), 4)];
    let weights = |key: &str| {
        let tensor = Pickle::default().tensor("FloatStorage", key, 2, 0, &[2], &[1]);
        Pickle::default().dictionary(&[
            ("w", tensor),
            ("epoch", Pickle::default().op(b"K\x07")),
            ("n", Pickle::default().op(b"N")),
        ])
    };
    let rest = Pickle::default().class("argparse", "Namespace").op(b")\x81}(").text("lr").op(b"G\0\0\0\0\0\0\0\0ub");
    let value = |found: &StateDict| found.weights["w"].1[0];
    for key in ["model", "state_dict", "model_state_dict", "module", "net", "anything"] {
        let object = Pickle::default().dictionary(&[
            ("args", rest.clone()),
            (key, weights("a")),
            ("loss", Pickle::default().op(b"](K\x01e")),
        ]);
        let found = read_pytorch(&zipped(&object, &storages), None).unwrap();
        assert_eq!((value(&found), found.left_out.len()), (1.0, 0), "{key}");
    }
    let both = Pickle::default().dictionary(&[("model_ema", weights("b")), ("model", weights("a"))]);
    let found = read(&both, &storages, None).unwrap();
    assert_eq!((value(&found), found.left_out[0].as_str()), (1.0, "took `model`, left out model_ema"));
    assert_eq!(value(&read(&both, &storages, Some("model_ema")).unwrap()), 3.0);
    let error = read(&both, &storages, Some("ema")).unwrap_err();
    assert!(error.contains("under the key \"ema\"") && error.contains("model_ema, model"), "{error}");
    let deep = Pickle::default()
        .dictionary(&[("a.b", Pickle::default().dictionary(&[("c", weights("b"))])), ("d", weights("a"))]);
    assert_eq!(value(&read(&deep, &storages, Some("a.b")).unwrap()), 3.0);
    let nested = Pickle::default()
        .dictionary(&[("x", Pickle::default().dictionary(&[("y", weights("b"))])), ("z", weights("a"))]);
    assert_eq!(value(&read(&nested, &storages, Some("x.y")).unwrap()), 3.0);
    let error = read(&nested, &storages, None).unwrap_err();
    assert!(error.contains("several dictionaries") && error.contains("x, z"), "{error}");
    for empty in [Pickle::default().op(b"}"), Pickle::default().op(b"N"), Pickle::default().op(b"](K\x01e")] {
        assert!(read(&empty, &storages[..0], None).unwrap_err().contains("no dictionary of named tensors"));
    }
}

/// What Python would execute is refused and named, wherever it stands.
#[test]
fn nothing_is_executed() {
    let one = [("0", floats(&[1.0]), 4)];
    let tensor = || Pickle::default().tensor("FloatStorage", "0", 1, 0, &[1], &[1]);
    for (module, name) in [
        ("os", "system"),
        ("posix", "system"),
        ("builtins", "eval"),
        ("__builtin__", "exec"),
        ("builtins", "getattr"),
        ("subprocess", "Popen"),
        ("torch", "load"),
        ("torch.hub", "load"),
        ("timm.models.vision_transformer", "VisionTransformer"),
        ("collections", "namedtuple"),
        ("runpy", "_run_code"),
        ("torch._utils", "_rebuild_tensor_v3"),
    ] {
        let named = format!("`{module}.{name}`");
        let old = Pickle::default().class(module, name).op(b"(").text("echo").op(b"tR");
        let new = Pickle::default().text(module).text(name).op(b"\x93(").text("echo").op(b"tR");
        for call in [old, new] {
            let object = Pickle::default().dictionary(&[("w", tensor()), ("x", call)]);
            let error = read(&object, &one, None).unwrap_err();
            assert!(error.contains(&named), "{error}");
        }
    }
    for (code, shown) in
        [(b'i', "0x69"), (b'o', "0x6f"), (0x82, "0x82"), (0x84, "0x84"), (b'P', "0x50"), (0x97, "0x97"), (0xff, "0xff")]
    {
        let error = read(&Pickle::default().op(b"(").op(&[code]).op(b"os\nsystem\n"), &one, None).unwrap_err();
        assert!(error.contains("the instruction") && error.contains(shown) && error.contains("at byte 3"), "{error}");
    }
}

#[test]
fn what_does_not_fit_is_said() {
    let one = [("0", floats(&[1.0; 6]), 4)];
    let error = |class: &str, key: &str, len: usize, offset: usize, shape: &[usize], strides: &[usize]| {
        let tensor = Pickle::default().tensor(class, key, len, offset, shape, strides);
        read(&Pickle::default().dictionary(&[("w", tensor)]), &one, None).unwrap_err()
    };
    for (len, offset, shape, strides) in [
        (6, 0, &[7][..], &[1][..]),
        (6, 6, &[1], &[1]),
        (6, 0, &[2, 3], &[4, 1]),
        (usize::MAX / 4, 0, &[9], &[1]),
        (6, usize::MAX / 2, &[1], &[1]),
        (6, 0, &[2], &[usize::MAX / 2]),
    ] {
        let error = error("FloatStorage", "0", len, offset, shape, strides);
        assert!(error.contains("`w`") && error.contains("goes beyond"), "{error}");
    }
    assert!(error("FloatStorage", "0", 6, 0, &[usize::MAX / 2, 9], &[0, 0]).contains("values for each of its"));
    assert!(error("FloatStorage", "0", 6, 0, &[6; 20], &[0; 20]).contains("shape and strides"));
    let tensor = Pickle::default().tensor("FloatStorage", "9", 6, 0, &[6], &[1]);
    let object = Pickle::default().dictionary(&[("w", tensor)]);
    assert!(read_pytorch(&zipped(&object, &one), None).unwrap_err().contains("lacks its storage 9"));
    assert!(read_pytorch(b"PK\x03\x04 and no more", None).unwrap_err().contains("cut off"));
    assert!(read_pytorch(b"\x80\x04N.", None).unwrap_err().contains("not of torch.save"));
    let mut other = zipped(&object, &one);
    let at = other.windows(8).rposition(|w| w == b"data.pkl").unwrap();
    other[at..at + 8].copy_from_slice(b"data.txt");
    assert!(read_pytorch(&other, None).unwrap_err().contains("not one of torch.save"));
}

/// Every beginning of a file is refused, none with a panic.
#[test]
fn files_that_are_cut_off() {
    let storages = [("0", floats(&[1.0, 2.0]), 4)];
    let tensor = Pickle::default().tensor("FloatStorage", "0", 2, 0, &[2], &[1]);
    let object = Pickle::default().dictionary(&[("w", tensor)]);
    for file in [zipped(&object, &storages), legacy(&object, &storages)] {
        assert!(read_pytorch(&file, None).is_ok());
        (0..file.len()).for_each(|len| assert!(read_pytorch(&file[..len], None).is_err(), "{len}"));
    }
}
