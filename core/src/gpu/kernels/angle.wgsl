// Rotary positions: how a column is turned together with its partner. Part of
// the kernels that turn, whose parameters and `table` it reads.
struct Angle { cosine: f32, sine: f32, partner: i32 }

// Of a column of a head, one of the first `rotary_dims`, at a position: times
// `cosine`, plus the one `partner` columns on times `sine`.
fn angle(column: u32, position: u32) -> Angle {
  let half = p.rotary_dims / 2u;
  var pair = column % half;
  var second = column >= half;
  var distance = i32(half);
  if p.interleaved == 1u {
    pair = column / 2u;
    second = column % 2u == 1u;
    distance = 1;
  }
  let at = position * p.rotary_dims + pair;
  let sine = table[at + half];
  if second {
    return Angle(table[at], sine, -distance);
  }
  return Angle(table[at], -sine, distance);
}
