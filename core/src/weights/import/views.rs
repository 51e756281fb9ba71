//! Strided views of stored values, row-major.

/// The values of a view with these `strides` (in values) from `offset` on. The view must lie
/// within `values`.
pub fn gather(values: &[f32], offset: usize, shape: &[usize], strides: &[usize]) -> Vec<f32> {
    let count: usize = shape.iter().product();
    if count == 0 {
        return Vec::new();
    }
    if strides == row_major(shape) {
        return values[offset..offset + count].to_vec();
    }
    let mut gathered = Vec::with_capacity(count);
    let mut index = vec![0; shape.len()];
    for _ in 0..count {
        let place: usize = index.iter().zip(strides).map(|(i, s)| i * s).sum();
        gathered.push(values[offset + place]);
        for (position, &size) in index.iter_mut().zip(shape).rev() {
            *position += 1;
            if *position < size {
                break;
            }
            *position = 0;
        }
    }
    gathered
}

/// Strides of a dense tensor, last dimension fastest.
pub fn row_major(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis] * shape[axis];
    }
    strides
}

/// Strides of a dense tensor, first dimension fastest (Fortran).
pub fn column_major(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for axis in 1..shape.len() {
        strides[axis] = strides[axis - 1] * shape[axis - 1];
    }
    strides
}

/// Permutes the axes of a dense tensor: axis `i` of the result is `order[i]`.
pub fn permuted(values: &[f32], shape: &[usize], order: &[usize]) -> (Vec<f32>, Vec<usize>) {
    let strides = row_major(shape);
    let pick = |from: &[usize]| order.iter().map(|&axis| from[axis]).collect::<Vec<_>>();
    let shape = pick(shape);
    (gather(values, 0, &shape, &pick(&strides)), shape)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn views_are_gathered_in_row_major_order() {
        let values: Vec<f32> = (0..12).map(|v| v as f32).collect();
        assert_eq!(gather(&values, 2, &[2, 3], &[3, 1]), values[2..8]);
        assert_eq!(gather(&values, 1, &[2, 2], &[1, 4]), [1.0, 5.0, 2.0, 6.0]);
        assert_eq!(gather(&values, 3, &[3], &[0]), [3.0; 3]);
        assert_eq!(column_major(&[2, 3, 4]), [1, 2, 6]);
        let (transposed, shape) = permuted(&values, &[3, 4], &[1, 0]);
        assert_eq!((transposed[1], shape), (4.0, vec![4, 3]));
    }
}
