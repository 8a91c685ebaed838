//! Zeros where patches are hidden: `x * mask`, the mask of patches repeated over the cells of a map.
//!
//! ```text
//!   x, y (B, H, W, C)   inv (B, rows·columns): a place, or u32::MAX where hidden
//!   y[b, i, j, c] = x[b, i, j, c] if inv[b, patch of (i, j)] is a place, else 0          dx = the same of dy
//! ```

/// Returns y. `size` is [B, H, W, C] and `grid` the rows and columns of patches. Applied to dy, it is dx.
pub fn hide(size: [usize; 4], grid: [usize; 2], x: &[f64], inv: &[u32]) -> Vec<f64> {
    let [_, h, w, c] = size;
    let hidden = |i: usize| {
        let (b, row, column) = (i / (c * w * h), i / (c * w) % h, i / c % w);
        inv[(b * grid[0] + row * grid[0] / h) * grid[1] + column * grid[1] / w] == u32::MAX
    };
    x.iter().enumerate().map(|(i, x)| if hidden(i) { 0.0 } else { *x }).collect()
}

#[cfg(test)]
mod tests {
    use super::super::gradcheck::{check, dot, random};
    use super::*;

    #[test]
    fn by_hand_and_gradient() {
        let (size, grid, inv) = ([1, 2, 4, 1], [1, 2], [0, u32::MAX]);
        let (x, dy) = (random(1, 8), random(2, 8));
        assert_eq!(hide(size, grid, &x, &inv), [x[0], x[1], 0.0, 0.0, x[4], x[5], 0.0, 0.0]);
        check("dx", &x, &hide(size, grid, &dy, &inv), |x| dot(&hide(size, grid, x, &inv), &dy));
    }
}
