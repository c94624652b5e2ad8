import GraftGraph

/// Images of another size.
extension ONNXImporter {
  static let resizeHandlers: [String: Handler] = [
    "Resize": { try $0.resize($1) },
    "Upsample": { try $0.upsample($1) },
  ]

  /// How elements of one axis are read.
  private struct Sampling {
    enum Filter: String { case nearest, linear, cubic }
    var filter: Filter
    /// ONNX's names: coordinate_transformation_mode and nearest_mode.
    var coordinates = "half_pixel"
    var rounding = "round_prefer_floor"
    var cubicCoefficient: Float = -0.75
    var excludesOutside = false
    var isAntialiased = false

    /// Where in the source an element of the result lies. In single precision as in ONNX Runtime, which places nearest neighbours so.
    func place(_ index: Int, from: Int, to: Int, scale: Float) -> Float {
      let o = Float(index)
      switch coordinates {
      case "align_corners": return to > 1 ? o * Float(from - 1) / Float(to - 1) : 0
      case "asymmetric": return o / scale
      case "pytorch_half_pixel": return to > 1 ? (o + 0.5) / scale - 0.5 : 0
      case "half_pixel_symmetric":
        let adjustment = Float(to) / (scale * Float(from))
        return Float(from) / 2 * (1 - adjustment) + (o + 0.5) / scale - 0.5
      default: return (o + 0.5) / scale - 0.5
      }
    }

    func nearest(_ place: Float) -> Float {
      switch rounding {
      case "round_prefer_ceil": (place + 0.5).rounded(.down)
      case "floor": place.rounded(.down)
      case "ceil": place.rounded(.up)
      default: (place - 0.5).rounded(.up)
      }
    }

    /// The kernel at a distance.
    private func weight(_ distance: Double) -> Double {
      let x = abs(distance), a = Double(cubicCoefficient)
      if filter == .linear { return max(0, 1 - x) }
      if x <= 1 { return ((a + 2) * x - (a + 3)) * x * x + 1 }
      return x < 2 ? ((a * x - 5 * a) * x + 8 * a) * x - 4 * a : 0
    }

    /// What each element of the result is a sum of: the matrix [to, from].
    func matrix(from: Int, to: Int, scale: Float) -> [[Int: Double]] {
      (0..<to).map { index in
        let place = place(index, from: from, to: to, scale: scale)
        if filter == .nearest { return [min(max(Int(nearest(place)), 0), from - 1): 1] }
        // Smoothing stretches the kernel where the image shrinks.
        let stretch = isAntialiased ? max(1, 1 / Double(scale)) : 1
        let reach = (filter == .linear ? 1 : 2) * stretch
        let center = Double(place)
        var taps: [Int: Double] = [:], total = 0.0
        for tap in Int((center - reach).rounded(.down))...Int((center + reach).rounded(.up)) {
          let isOutside = tap < 0 || tap >= from
          let weight = weight((Double(tap) - center) / stretch)
          if weight == 0 || isOutside && excludesOutside { continue }
          taps[min(max(tap, 0), from - 1), default: 0] += weight
          total += weight
        }
        return (excludesOutside || isAntialiased) && total != 0 ? taps.mapValues { $0 / total } : taps
      }
    }
  }

  private func filter(_ node: ONNXNode) throws -> Sampling.Filter {
    // Upsample's older name for linear is bilinear.
    let mode = try node.string("mode") ?? "nearest"
    guard let filter = mode == "bilinear" ? .linear : Sampling.Filter(rawValue: mode) else {
      throw node.error("its mode \(quoted(mode)) is not known", remedy: ImportError.fetchAgain)
    }
    return filter
  }

  private mutating func upsample(_ node: ONNXNode) throws {
    let scales = try node.floats("scales") ?? host(node, 1, "scales").floats()
    let sampling = Sampling(filter: try filter(node), coordinates: "asymmetric", rounding: "floor")
    try resize(node, sampling, scales: scales, sizes: nil, axes: Array(0..<scales.count))
  }

  private mutating func resize(_ node: ONNXNode) throws {
    if file.opsetVersion < 11 { return try upsample(node) }
    var sampling = Sampling(filter: try filter(node))
    sampling.coordinates = try node.string("coordinate_transformation_mode") ?? sampling.coordinates
    sampling.rounding = try node.string("nearest_mode") ?? sampling.rounding
    sampling.cubicCoefficient = try node.float("cubic_coeff_a") ?? sampling.cubicCoefficient
    sampling.excludesOutside = try node.integer("exclude_outside") ?? 0 != 0
    sampling.isAntialiased = try node.integer("antialias") ?? 0 != 0
    let known = ["half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric", "half_pixel_symmetric"]
    guard known.contains(sampling.coordinates) else {
      throw node.error(
        "its coordinate_transformation_mode \(quoted(sampling.coordinates)) is not supported",
        remedy: "Export the model with one of \(listed(known)).")
    }
    let policy = try node.string("keep_aspect_ratio_policy") ?? "stretch"
    guard policy == "stretch" else {
      throw node.error("its keep_aspect_ratio_policy \(quoted(policy)) is not supported", remedy: "Export the model with fixed sizes.")
    }
    let rank = shape(of: try imported(node, 0)).count
    let axes = try node.integers("axes")?.map { try axis(node, $0, rank: rank) } ?? Array(0..<rank)
    // One of them is empty where the other says the size.
    let scales = has(node, 2) ? try host(node, 2, "scales").floats() : []
    let sizes = has(node, 3) ? try host(node, 3, "sizes").integers().map { Int($0) } : []
    try resize(node, sampling, scales: scales, sizes: sizes.isEmpty ? nil : sizes, axes: axes)
  }

  /// One axis after the other, each a product with a matrix that is known; a whole factor of nearest neighbours is a repetition.
  private mutating func resize(_ node: ONNXNode, _ sampling: Sampling, scales: [Float], sizes: [Int]?, axes: [Int]) throws {
    let x = try value(node, 0), dimensions = shape(x)
    guard dimensions.count == 4 || dimensions.count == 3, !dimensions.contains(0) else {
      throw node.error("its input has shape \(dimensions), and an image [N, C, H, W] is expected", remedy: ImportError.fetchAgain)
    }
    guard sizes?.count ?? scales.count == axes.count else {
      throw node.error("its sizes or scales do not fit its \(axes.count) axes", remedy: ImportError.fetchAgain)
    }
    var target = dimensions, factors = dimensions.map { _ in Float(1) }
    for (index, axis) in axes.enumerated() {
      let from = dimensions[axis]
      // In single precision, as ONNX Runtime: 5 times 1.4 is 7 there.
      let wanted = sizes.map { Double($0[index]) } ?? Double((Float(from) * scales[index]).rounded(.down))
      guard wanted >= 1, wanted <= Double(Self.largestSide), axis >= 2 || wanted == Double(from) else {
        throw node.error(
          "it makes \(wanted) of the \(from) of axis \(axis)", remedy: "Only height and width can be resized, to at most \(Self.largestSide).")
      }
      target[axis] = Int(wanted)
      factors[axis] = sizes == nil ? scales[index] : Float(wanted) / Float(from)
    }
    // Rows of pixels, channels last: [N, H, W, C] or [N, L, C].
    var y = try channelsLast(x)
    for axis in 2..<dimensions.count where target[axis] != dimensions[axis] || factors[axis] != 1 {
      try reserve(node, [target[axis], dimensions[axis]], .float32, limit: Self.largestComputed)
      let matrix = sampling.matrix(from: dimensions[axis], to: target[axis], scale: factors[axis])
      y = try resampled(y, axis: axis - 1, matrix, node)
    }
    try define(node, try channelsFirst(y))
  }

  /// Pixels a resized image may have a side.
  static let largestSide = 1 << 15

  private mutating func resampled(_ x: ValueID, axis: Int, _ matrix: [[Int: Double]], _ node: ONNXNode) throws -> ValueID {
    let dimensions = shape(x), (from, to) = (dimensions[axis], matrix.count)
    let result = dimensions[..<axis] + [to] + dimensions[(axis + 1)...]
    let sources = matrix.compactMap { $0.count == 1 && $0.first?.value == 1 ? $0.first?.key : nil }
    if sources.count == to, to % from == 0, sources.enumerated().allSatisfy({ $0 / (to / from) == $1 }) {
      let apart = dimensions[...axis] + [1] + dimensions[(axis + 1)...]
      let wide = dimensions[...axis] + [to / from] + dimensions[(axis + 1)...]
      return try add(Reshape(Array(result)), [try add(Expand(Array(wide)), [try add(Reshape(Array(apart)), [x], node)], node)], node)
    }
    let outer = dimensions[..<axis].reduce(1, *), inner = dimensions[(axis + 1)...].reduce(1, *)
    var weights = [Float](repeating: 0, count: to * from)
    for (row, taps) in matrix.enumerated() { for (tap, weight) in taps { weights[row * from + tap] = Float(weight) } }
    let product = try add(
      MatMul(), [graph.addConstant(HostTensor([to, from], weights), isFixed: true), try add(Reshape([outer, from, inner]), [x], node)], node)
    return try add(Reshape(Array(result)), [product], node)
  }
}
