//! Rows of matrices by their numbers: embeddings, gather, scatter.

use crate::buffers::Buffers;
use crate::shapes::{self, below, length};

/// Operations on rows.
pub trait RowOps: Buffers {
    /// `out[n,d] = table[ids[n],d]`.
    fn embedding(&self, out: &mut Self::Buf, table: &Self::Buf, ids: &[u32], d: usize) {
        self.gather_rows(out, table, ids, d);
    }

    /// `dtable[ids[n],d] += dout[n,d]`, in row order.
    fn embedding_backward(&self, dtable: &mut Self::Buf, dout: &Self::Buf, ids: &[u32], d: usize) {
        length(self.len(dout), ids.len() * d, "dout [n,d]");
        below(ids, shapes::rows(self.len(dtable), d, "dtable"), "ids");
        self.embedding_backward_unchecked(dtable, dout, ids, d);
    }
    /// [`RowOps::embedding_backward`] of checked arguments.
    fn embedding_backward_unchecked(
        &self,
        dtable: &mut Self::Buf,
        dout: &Self::Buf,
        ids: &[u32],
        d: usize,
    );

    /// `out[m,d] = x[rows[m],d]`.
    fn gather_rows(&self, out: &mut Self::Buf, x: &Self::Buf, rows: &[u32], d: usize) {
        length(self.len(out), rows.len() * d, "out [m,d]");
        below(rows, shapes::rows(self.len(x), d, "x"), "rows");
        self.gather_rows_unchecked(out, x, rows, d);
    }
    /// [`RowOps::gather_rows`] of checked arguments.
    fn gather_rows_unchecked(&self, out: &mut Self::Buf, x: &Self::Buf, rows: &[u32], d: usize);

    /// `dx[rows[m],d] += dout[m,d]`, in row order.
    fn scatter_add_rows(&self, dx: &mut Self::Buf, dout: &Self::Buf, rows: &[u32], d: usize) {
        length(self.len(dout), rows.len() * d, "dout [m,d]");
        below(rows, shapes::rows(self.len(dx), d, "dx"), "rows");
        self.scatter_add_rows_unchecked(dx, dout, rows, d);
    }
    /// [`RowOps::scatter_add_rows`] of checked arguments.
    fn scatter_add_rows_unchecked(
        &self,
        dx: &mut Self::Buf,
        dout: &Self::Buf,
        rows: &[u32],
        d: usize,
    );
}
