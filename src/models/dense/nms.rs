//! Non-maximum suppression: of boxes that overlap, the one with the highest score stays.

/// Left, top, right, bottom.
pub type Corners = [f32; 4];

/// Intersection over union; 0 where the intersection is empty.
pub fn iou(a: &Corners, b: &Corners) -> f32 {
    let side = |i: usize| (a[i + 2].min(b[i + 2]) - a[i].max(b[i])).max(0.0);
    let both = side(0) * side(1);
    let area = |b: &Corners| (b[2] - b[0]) * (b[3] - b[1]);
    if both > 0.0 { both / (area(a) + area(b) - both) } else { 0.0 }
}

/// The indices of the boxes that stay, by descending score; of equal scores the first comes first. A box is dropped
/// whose overlap with a kept one of the same group is above `threshold`.
///
/// - torchvision: `batched_nms(boxes, scores, groups, threshold)`; `nms` where all are of one group.
pub fn nms(boxes: &[Corners], scores: &[f32], groups: &[u32], threshold: f32) -> Vec<usize> {
    let mut order: Vec<usize> = (0..boxes.len().min(scores.len()).min(groups.len())).collect();
    order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a])); // stable
    let mut kept: Vec<usize> = Vec::new();
    for i in order {
        let near = |j: &usize| groups[*j] == groups[i] && iou(&boxes[*j], &boxes[i]) > threshold;
        if !kept.iter().any(near) {
            kept.push(i);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_surest_of_overlapping_boxes_stays() {
        let boxes = [[0.0, 0.0, 10.0, 10.0], [1.0, 0.0, 11.0, 10.0], [20.0, 0.0, 30.0, 10.0], [0.0, 0.0, 10.0, 10.0]];
        let scores = [0.5, 0.9, 0.1, 0.9];
        assert_eq!(nms(&boxes, &scores, &[0; 4], 0.5), [1, 2]);
        assert_eq!(nms(&boxes, &scores, &[0, 1, 0, 0], 0.5), [1, 3, 2]);
        assert_eq!(nms(&boxes, &scores, &[0; 4], 0.9), [1, 3, 2]); // equal boxes overlap by 1
        assert_eq!(nms(&[], &[], &[], 0.5), [0usize; 0]);
    }

    #[test]
    fn overlap_of_boxes() {
        assert_eq!(iou(&[0.0, 0.0, 2.0, 2.0], &[1.0, 0.0, 3.0, 2.0]), 1.0 / 3.0);
        assert_eq!(iou(&[0.0, 0.0, 1.0, 1.0], &[1.0, 0.0, 2.0, 1.0]), 0.0);
        assert_eq!(iou(&[0.0; 4], &[0.0; 4]), 0.0);
    }
}
