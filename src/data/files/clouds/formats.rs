//! The formats of clouds and meshes, by the ending of the name.

use std::io::Cursor;

use serde::Deserialize;

use super::mesh::Shape;

type Read = fn(&[u8]) -> Result<Shape, String>;

/// Endings in lower case, and how such files are read.
const FORMATS: &[(&str, Read)] =
    &[(".off", off), (".ply", ply), (".obj", obj), (".stl", stl), (".npy", npy), (".xyz", text), (".pts", text)];

/// Whether a file of this name is a cloud or a mesh.
pub fn is_cloud_name(name: &str) -> bool {
    reader(name).is_some()
}

fn reader(name: &str) -> Option<Read> {
    let name = name.to_ascii_lowercase();
    FORMATS.iter().find(|(end, _)| name.len() > end.len() && name.ends_with(end)).map(|(_, read)| *read)
}

/// What a file holds. Names of other endings are lines of numbers, as the `.txt` of ModelNet40.
pub(super) fn read(name: &str, bytes: &[u8]) -> Result<Shape, String> {
    reader(name).unwrap_or(text)(bytes)
}

/// The words of a text, line by line.
fn lines(bytes: &[u8]) -> Result<impl Iterator<Item = Vec<&str>>, String> {
    let text = std::str::from_utf8(bytes).map_err(|e| format!("is no text: {e}"))?;
    Ok(text.lines().map(words))
}

/// The words of a line up to a `#`, between spaces, commas or semicolons.
fn words(line: &str) -> Vec<&str> {
    let line = line.split('#').next().unwrap_or_default();
    line.split(|c: char| c.is_whitespace() || c == ',' || c == ';').filter(|word| !word.is_empty()).collect()
}

/// Three numbers at the beginning of a line.
fn point(words: &[&str]) -> Result<[f32; 3], String> {
    let wrong = || format!("has the line `{}`, expected three numbers", words.join(" "));
    let mut found = [0.0; 3];
    for (axis, value) in found.iter_mut().enumerate() {
        *value = words.get(axis).and_then(|word| word.parse().ok()).ok_or_else(wrong)?;
    }
    Ok(found)
}

/// x, y, z and perhaps more on each line. A first line of one number is a count.
fn text(bytes: &[u8]) -> Result<Shape, String> {
    let rows = lines(bytes)?.filter(|words| !words.is_empty()).enumerate();
    let rows = rows.filter(|(i, words)| *i > 0 || words.len() > 1);
    rows.map(|(_, words)| point(&words)).collect::<Result<_, _>>().map(Shape::Points)
}

/// Geomview's OFF. Vertices may have more than a place: `STCN` before `OFF` says texture, color, normal. In ModelNet40
/// the counts of some files stand behind `OFF` in the first line.
fn off(bytes: &[u8]) -> Result<Shape, String> {
    let mut rows = lines(bytes)?.filter(|words| !words.is_empty());
    let mut first = rows.next().ok_or("is empty")?;
    let keyword = first.first().and_then(|word| word.split_once("OFF"));
    let Some((_, rest)) = keyword.filter(|(more, _)| more.bytes().all(|letter| b"STCN".contains(&letter))) else {
        return Err(format!("begins with `{}`, expected OFF", first.join(" ")));
    };
    first[0] = rest;
    first.retain(|word| !word.is_empty());
    let counts = if first.is_empty() { rows.next().ok_or("ends behind OFF")? } else { first };
    let count = |i: usize| counts.get(i).and_then(|word| word.parse::<usize>().ok());
    let (Some(vertices), Some(faces)) = (count(0), count(1)) else {
        return Err(format!("has the line `{}`, expected the numbers of vertices and faces", counts.join(" ")));
    };
    let mut points = Vec::new();
    for i in 0..vertices {
        let words = rows.next().ok_or_else(|| format!("ends behind vertex {i} of {vertices}"))?;
        points.push(point(&words)?);
    }
    let mut triangles = Vec::new();
    for i in 0..faces {
        let words = rows.next().ok_or_else(|| format!("ends behind face {i} of {faces}"))?;
        let numbers: Vec<u32> = words.iter().map_while(|word| word.parse().ok()).collect();
        match numbers.split_first() {
            Some((&sides, corners)) if sides >= 3 && corners.len() >= sides as usize => {
                fan(&corners[..sides as usize], &mut triangles);
            }
            _ => return Err(format!("has the face `{}`, expected a number of corners and these", words.join(" "))),
        }
    }
    Ok(Shape::Mesh(points, triangles))
}

/// Appends the triangles of a polygon.
fn fan(corners: &[u32], triangles: &mut Vec<[u32; 3]>) {
    triangles.extend(corners.windows(2).skip(1).map(|pair| [corners[0], pair[0], pair[1]]));
}

#[derive(Deserialize)]
struct PlyVertex {
    x: f32,
    y: f32,
    z: f32,
}

#[derive(Deserialize)]
struct PlyFace {
    #[serde(alias = "vertex_index")]
    vertex_indices: Vec<u32>,
}

#[derive(Deserialize)]
struct Ply {
    vertex: Vec<PlyVertex>,
    #[serde(default)]
    face: Vec<PlyFace>,
}

/// ASCII or binary; without faces it is a cloud.
fn ply(bytes: &[u8]) -> Result<Shape, String> {
    let ply: Ply = serde_ply::from_bytes(bytes).map_err(|e| format!("is no PLY file that can be read: {e}"))?;
    let points = ply.vertex.iter().map(|v| [v.x, v.y, v.z]).collect();
    if ply.face.is_empty() {
        return Ok(Shape::Points(points));
    }
    let mut triangles = Vec::new();
    ply.face.iter().for_each(|face| fan(&face.vertex_indices, &mut triangles));
    Ok(Shape::Mesh(points, triangles))
}

/// Wavefront's OBJ; materials are not looked at, and without faces it is a cloud.
fn obj(bytes: &[u8]) -> Result<Shape, String> {
    let options = tobj::LoadOptions { triangulate: true, single_index: true, ..tobj::LoadOptions::default() };
    let none = |_: &std::path::Path| Err(tobj::LoadError::OpenFileFailed);
    let (models, _) = tobj::load_obj_buf(&mut Cursor::new(bytes), &options, none)
        .map_err(|e| format!("is no OBJ file that can be read: {e}"))?;
    let (mut points, mut triangles) = (Vec::<[f32; 3]>::new(), Vec::new());
    for model in models {
        let first = points.len() as u32;
        points.extend(model.mesh.positions.as_chunks::<3>().0);
        triangles.extend(model.mesh.indices.as_chunks::<3>().0.iter().map(|corners| corners.map(|i| first + i)));
    }
    if !triangles.is_empty() {
        return Ok(Shape::Mesh(points, triangles));
    }
    let vertices = lines(bytes)?.filter(|words| words.first() == Some(&"v"));
    vertices.map(|words| point(&words[1..])).collect::<Result<_, _>>().map(Shape::Points)
}

/// ASCII or binary.
fn stl(bytes: &[u8]) -> Result<Shape, String> {
    let mesh =
        stl_io::read_stl(&mut Cursor::new(bytes)).map_err(|e| format!("is no STL file that can be read: {e}"))?;
    let points = mesh.vertices.iter().map(|v| v.0).collect();
    Ok(Shape::Mesh(points, mesh.faces.iter().map(|face| face.vertices.map(|i| i as u32)).collect()))
}

/// An array (N, 3) or (N, more) of NumPy, in f32 or f64.
fn npy(bytes: &[u8]) -> Result<Shape, String> {
    let (Some(b"\x93NUMPY"), Some(version)) = (bytes.get(..6), bytes.get(6)) else {
        return Err("is no .npy file: it does not begin with \\x93NUMPY".into());
    };
    let (digits, header): (usize, usize) = if *version == 1 { (2, 10) } else { (4, 12) };
    let length = bytes.get(8..8 + digits).ok_or("ends inside its header")?;
    let length = length.iter().rev().fold(0usize, |length, byte| length << 8 | usize::from(*byte));
    let text = bytes.get(header..header.saturating_add(length)).ok_or("ends inside its header")?;
    let text = String::from_utf8_lossy(text);
    let after = |key: &str| text.split_once(key).map(|(_, rest)| rest.trim_start_matches([' ', ':', '\'', '"']));
    let described = after("descr").unwrap_or_default();
    let wide = match described.get(..3) {
        Some("<f4") => false,
        Some("<f8") => true,
        _ => return Err(format!("has the header {}, expected numbers of '<f4' or '<f8'", text.trim())),
    };
    if after("fortran_order").is_none_or(|rest| rest.starts_with("True")) {
        return Err("is stored column by column (fortran_order), expected row by row".into());
    }
    let shape = after("shape").and_then(|rest| rest.strip_prefix('(')?.split_once(')')).map(|(shape, _)| shape);
    let sizes: Vec<usize> = shape.unwrap_or_default().split(',').filter_map(|size| size.trim().parse().ok()).collect();
    let [rows, columns] = sizes[..] else { return Err(format!("has the shape {sizes:?}, expected (points, 3)")) };
    let data = &bytes[header + length..];
    let each = if wide { 8 } else { 4 };
    let wanted = rows.checked_mul(columns).and_then(|values| values.checked_mul(each));
    if columns < 3 || wanted != Some(data.len()) {
        let got = data.len();
        return Err(format!("has {got} bytes for the shape ({rows}, {columns}), expected (points, at least 3)"));
    }
    let value = |at: usize| match wide {
        true => {
            data.get(at * 8..).and_then(|rest| rest.first_chunk()).map_or(f64::NAN, |b| f64::from_le_bytes(*b)) as f32
        }
        false => data.get(at * 4..).and_then(|rest| rest.first_chunk()).map_or(f32::NAN, |b| f32::from_le_bytes(*b)),
    };
    let points = (0..rows).map(|row| std::array::from_fn(|axis| value(row * columns + axis)));
    Ok(Shape::Points(points.collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CORNERS: [[f32; 3]; 4] = [[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [1.0, 1.0, 0.0], [0.0, 1.0, 0.5]];

    #[test]
    fn meshes_of_every_format_are_the_same() {
        let off = b"OFF4 1 0\n0 0 0\n1 0 0 # a corner\n\n1 1 0\n0 1 .5\n4 0 1 2 3 255 0 0\n";
        let ply = b"ply\nformat ascii 1.0\nelement vertex 4\nproperty float x\nproperty float y\nproperty float z\n\
            element face 1\nproperty list uchar int vertex_index\nend_header\n\
            0 0 0\n1 0 0\n1 1 0\n0 1 0.5\n4 0 1 2 3\n";
        let obj = b"# a square\nv 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0.5\nf 1 2 3 4\n";
        let stl = b"solid a\nfacet normal 0 0 1\nouter loop\n\
            vertex 0 0 0\nvertex 1 0 0\nvertex 1 1 0\nendloop\nendfacet\n\
            facet normal 0 0 1\nouter loop\n\
            vertex 0 0 0\nvertex 1 1 0\nvertex 0 1 0.5\nendloop\nendfacet\nendsolid a\n";
        let want = Shape::Mesh(CORNERS.to_vec(), vec![[0, 1, 2], [0, 2, 3]]);
        let colored = b"COFF\n4 1 0\n0 0 0 9 9 9 1\n1 0 0 9 9 9 1\n1 1 0 9 9 9 1\n0 1 .5 9 9 9 1\n4 0 1 2 3\n";
        for (name, bytes) in [("a.OFF", &off[..]), ("b.off", colored), ("a.ply", ply), ("a.obj", obj), ("a.stl", stl)] {
            assert_eq!(read(name, bytes).unwrap(), want, "{name}");
        }
    }

    fn array(descr: &str, shape: &str, data: &[u8]) -> Vec<u8> {
        let header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n");
        [b"\x93NUMPY\x01\x00", &(header.len() as u16).to_le_bytes()[..], header.as_bytes(), data].concat()
    }

    #[test]
    fn clouds_of_every_format_are_the_same() {
        let narrow: Vec<u8> = CORNERS.as_flattened().iter().flat_map(|v| v.to_le_bytes()).collect();
        let wide: Vec<u8> = CORNERS.as_flattened().iter().flat_map(|v| f64::from(*v).to_le_bytes()).collect();
        let with_normals: Vec<u8> =
            CORNERS.iter().flat_map(|p| [p[0], p[1], p[2], 9.0, 9.0, 9.0]).flat_map(f32::to_le_bytes).collect();
        let want = Shape::Points(CORNERS.to_vec());
        for (name, bytes) in [
            ("a.npy", array("<f4", "(4, 3)", &narrow)),
            ("a.npy", array("<f8", "(4, 3)", &wide)),
            ("a.npy", array("<f4", "(4, 6)", &with_normals)),
            ("a.xyz", b"0 0 0\n1 0 0\n1 1 0\n0 1 0.5\n".to_vec()),
            ("a.pts", b"4\n0 0 0\n1 0 0\n1 1 0\n0 1 0.5\n".to_vec()),
            ("a.txt", b"0,0,0,1,0,0\n1,0,0,1,0,0\n1,1,0,1,0,0\n0,1,0.5,1,0,0\n".to_vec()),
            ("a.obj", b"v 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0.5\n".to_vec()),
        ] {
            assert_eq!(read(name, &bytes).unwrap(), want, "{name}");
        }
    }

    #[test]
    fn broken_files_are_named() {
        for (name, bytes, what) in [
            ("a.off", &b"PLY"[..], "expected OFF"),
            ("a.off", b"4OFF\n3 1 0\n", "begins with `4OFF`, expected OFF"),
            ("a.off", b"OFF\n3 1 0\n0 0 0\n", "ends behind vertex 1 of 3"),
            ("a.off", b"OFF\n1 1 0\n0 0 0\n2 0 0\n", "the face `2 0 0`"),
            ("a.off", b"OFF\nmany 1 0\n", "the numbers of vertices"),
            ("a.ply", b"ply\nformat ascii 1.0\nend_header\n", "PLY"),
            ("a.stl", b"solid a\nfacet", "STL"),
            ("a.xyz", b"0 0\n1 2 3\n", "`0 0`, expected three numbers"),
            ("a.npy", b"NUMPY", "does not begin"),
            ("a.npy", &array("<i4", "(4, 3)", &[0; 48]), "'<f4' or '<f8'"),
            ("a.npy", &array("<f4", "(4, 3)", &[0; 40]), "40 bytes for the shape (4, 3)"),
            ("a.npy", &array("<f4", "(12,)", &[0; 48]), "the shape [12]"),
            ("a.npy", &array("<f4", "(99999999999999, 99999999999999)", &[0; 48]), "48 bytes"),
        ] {
            let e = read(name, bytes).unwrap_err();
            assert!(e.contains(what), "{name}: {e}");
        }
    }
}
