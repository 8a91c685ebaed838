//! Points on the surface of a mesh.

use crate::data::stream::{Stream, StreamPurpose};

/// What a file holds.
#[derive(Debug, PartialEq)]
pub(super) enum Shape {
    /// Points.
    Points(Vec<[f32; 3]>),
    /// Vertices, and triangles of their numbers.
    Mesh(Vec<[f32; 3]>, Vec<[u32; 3]>),
}

/// Points that are drawn of a mesh: as many as the published clouds of ShapeNet have.
const POINTS: usize = 8192;

impl Shape {
    /// Its points; of a mesh those that are drawn from its surface, even over the area, the same ones each time.
    pub fn points(self, index: usize) -> Result<Vec<[f32; 3]>, String> {
        let (vertices, triangles) = match self {
            Self::Points(points) if points.is_empty() => return Err("holds no points".into()),
            Self::Points(points) => {
                let wrong = points.iter().position(|point| point.iter().any(|v| !v.is_finite()));
                return match wrong {
                    Some(i) => Err(format!("has the point {:?} at place {i}, expected finite numbers", points[i])),
                    None => Ok(points),
                };
            }
            Self::Mesh(vertices, triangles) => (vertices, triangles),
        };
        let corner = |i: u32| vertices.get(i as usize).copied().map(|p| p.map(f64::from));
        let mut faces = Vec::with_capacity(triangles.len());
        let mut area = 0.0;
        for (i, triangle) in triangles.iter().enumerate() {
            let [Some(a), Some(b), Some(c)] = triangle.map(corner) else {
                return Err(format!("has {} vertices, and triangle {i} is {triangle:?}", vertices.len()));
            };
            let side = |to: [f64; 3]| std::array::from_fn::<f64, 3, _>(|axis| to[axis] - a[axis]);
            let ([ax, ay, az], [bx, by, bz]) = (side(b), side(c));
            let cross = [ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx];
            area += cross.iter().map(|v| v * v).sum::<f64>().sqrt() / 2.0;
            faces.push((area, [a, b, c])); // the area of this and all triangles before it
        }
        if !area.is_finite() {
            return Err("has a vertex that is no finite number".into());
        }
        if area == 0.0 {
            return Err(format!("has {} triangles, none of them with an area", triangles.len()));
        }
        let mut s = Stream::new(StreamPurpose::Surface, [index as u64, 0, 0]);
        let mut point = || {
            let place = s.unit() * area;
            let (_, [a, b, c]) = faces[faces.partition_point(|(upto, _)| *upto <= place).min(faces.len() - 1)];
            // two numbers of a square, folded to the triangle
            let (mut u, mut v) = (s.unit(), s.unit());
            if u + v > 1.0 {
                (u, v) = (1.0 - u, 1.0 - v);
            }
            std::array::from_fn(|axis| (a[axis] + u * (b[axis] - a[axis]) + v * (c[axis] - a[axis])) as f32)
        };
        Ok((0..POINTS).map(|_| point()).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A square of two triangles, one of which is three times as large as the other, and one without an area.
    #[test]
    fn triangles_have_points_by_their_area() {
        let vertices = vec![[0.0, 0.0, 0.0], [3.0, 0.0, 0.0], [0.0, 2.0, 0.0], [0.0, -1.0, 0.0], [1.0, 0.0, 0.0]];
        let triangles = vec![[0, 1, 2], [0, 4, 3], [0, 1, 4]];
        let points = Shape::Mesh(vertices, triangles).points(0).unwrap();
        let below = points.iter().filter(|p| p[1] < 0.0).count() as f64 / points.len() as f64;
        assert!((below - 1.0 / 7.0).abs() < 0.02, "{below}");
        assert!(points.iter().all(|[x, y, z]| *z == 0.0 && *x >= 0.0 && x / 3.0 + y / 2.0 <= 1.0 + 1e-6));
    }

    #[test]
    fn what_has_no_surface_is_named() {
        let mesh = |vertices: &[[f32; 3]], triangles: &[[u32; 3]]| {
            Shape::Mesh(vertices.to_vec(), triangles.to_vec()).points(0).unwrap_err()
        };
        assert_eq!(mesh(&[], &[]), "has 0 triangles, none of them with an area");
        assert_eq!(mesh(&[[1.0; 3]; 3], &[[0, 1, 2]]), "has 1 triangles, none of them with an area");
        assert_eq!(mesh(&[[1.0; 3]; 3], &[[0, 1, 3]]), "has 3 vertices, and triangle 0 is [0, 1, 3]");
        assert!(mesh(&[[f32::NAN; 3], [0.0; 3], [1.0; 3]], &[[0, 1, 2]]).contains("no finite number"));
        assert_eq!(Shape::Points(vec![]).points(0).unwrap_err(), "holds no points");
        let e = Shape::Points(vec![[0.0; 3], [0.0, f32::INFINITY, 1.0]]).points(0).unwrap_err();
        assert_eq!(e, "has the point [0.0, inf, 1.0] at place 1, expected finite numbers");
    }
}
