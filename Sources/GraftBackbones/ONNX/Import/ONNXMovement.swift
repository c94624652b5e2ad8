import GraftGraph

/// Operators that move elements. Integers are moved here; of floats those that no kernel moves.
extension ONNXImporter {
  static let movementHandlers: [String: Handler] = [
    "Transpose": { try $0.transpose($1) },
    "Concat": { try $0.concat($1) },
    "Split": { try $0.split($1) },
    "Slice": { try $0.slice($1) },
    "Gather": { try $0.gather($1) },
    "GatherND": { try $0.gatherND($1) },
    "GatherElements": { try $0.gatherElements($1) },
    "ScatterND": { try $0.scatterND($1) },
    "Pad": { try $0.pad($1) },
    "Expand": { try $0.expand($1) },
    "Tile": { try $0.tile($1) },
    "DepthToSpace": { try $0.depthToSpace($1) },
    "SpaceToDepth": { try $0.spaceToDepth($1) },
    "Col2Im": { try $0.columnsToImage($1) },
  ]

  /// The integers behind an input that is moved here; nil for floats, which nodes move.
  func movedHere(_ node: ONNXNode) throws -> HostTensor? {
    if case .host(let tensor) = try imported(node, 0), !tensor.elementType.isFloatingPoint { tensor } else { nil }
  }

  /// A tensor of this shape, of elements that the offsets pick; those are only made where there are any.
  mutating func picked(_ node: ONNXNode, _ shape: [Int], from tensor: HostTensor, _ offsets: () throws -> [[Int]]) throws -> HostTensor {
    try reserve(node, shape, tensor.elementType)
    return shape.contains(0) ? .empty(shape, tensor.elementType) : tensor.picking(try offsets()).reshaped(shape)
  }

  mutating func transpose(_ node: ONNXNode) throws {
    let rank = shape(of: try imported(node, 0)).count
    let operation = Transpose(try node.integers("perm") ?? (0..<rank).reversed())
    guard let tensor = try movedHere(node) else { return try define(node, try add(operation, [try value(node, 0)], node)) }
    let result = try operation.outputType([TensorType(tensor.shape)]).shape, strides = rowMajorStrides(tensor.shape)
    let moved = try picked(node, result, from: tensor) { operation.permutation.map { d in (0..<tensor.shape[d]).map { $0 * strides[d] } } }
    define(node, host: moved)
  }

  mutating func concat(_ node: ONNXNode) throws {
    guard let given = try node.integer("axis") else { throw node.error("it has no axis", remedy: ImportError.fetchAgain) }
    if let tensors = allHost(node), let first = tensors.first {
      let operation = Concat(axis: try axis(node, given, rank: first.shape.count))
      let result = try operation.outputType(tensors.map { TensorType($0.shape) }).shape
      try reserve(node, result, .int64)
      guard !result.contains(0) else { return define(node, host: .empty(result, first.elementType)) }
      // Rows of all that comes after the axis.
      let outer = result[..<operation.axis].reduce(1, *)
      var values: [Double] = [], integers: [Int64] = []
      let isOfIntegers = !first.elementType.isFloatingPoint
      let parts = tensors.map { (doubles: isOfIntegers ? [] : $0.doubles(), integers: isOfIntegers ? $0.integers() : []) }
      for o in 0..<outer {
        for (tensor, part) in zip(tensors, parts) {
          let length = tensor.elementCount / max(1, outer)
          if isOfIntegers { integers += part.integers[o * length..<(o + 1) * length] } else { values += part.doubles[o * length..<(o + 1) * length] }
        }
      }
      return define(node, host: isOfIntegers ? HostTensor(result, integers: integers) : try hostTensor(result, values, like: first, node))
    }
    let inputs = try node.inputs.indices.map { try value(node, $0) }
    guard let first = inputs.first else { throw node.error("it has no inputs", remedy: ImportError.fetchAgain) }
    try define(node, try add(Concat(axis: try axis(node, given, rank: shape(first).count)), inputs, node))
  }

  mutating func split(_ node: ONNXNode) throws {
    let dimensions = shape(of: try imported(node, 0))
    let axis = try axis(node, try node.integer("axis") ?? 0, rank: dimensions.count)
    let parts = node.outputs.count
    let each = (dimensions[axis] + parts - 1) / max(1, parts)
    let sizes =
      try integers(node, attribute: "split", input: 1)
      ?? (0..<parts).map { min(each, max(0, dimensions[axis] - $0 * each)) }
    guard sizes.count == parts, sizes.allSatisfy({ $0 >= 0 && $0 <= dimensions[axis] }), sizes.reduce(0, +) == dimensions[axis] else {
      throw node.error("its parts \(sizes) are not the \(dimensions[axis]) there are", remedy: ImportError.fetchAgain)
    }
    var start = 0
    for (output, size) in sizes.enumerated() {
      let part = Slice(dimensions, axis: axis, from: start, count: size)
      if let tensor = try movedHere(node) {
        define(node, host: try picked(node, part.sizes, from: tensor) { part.offsets(in: dimensions) }, output: output)
      } else {
        try define(node, try add(part, [try value(node, 0)], node), output: output)
      }
      start += size
    }
  }

  mutating func slice(_ node: ONNXNode) throws {
    let dimensions = shape(of: try imported(node, 0))
    guard let starts = try integers(node, attribute: "starts", input: 1), let ends = try integers(node, attribute: "ends", input: 2) else {
      throw node.error("it has no starts or no ends", remedy: ImportError.fetchAgain)
    }
    let axes = try integers(node, attribute: "axes", input: 3) ?? Array(starts.indices)
    let steps = try integers(node, attribute: "steps", input: 4) ?? Array(repeating: 1, count: starts.count)
    guard starts.count == ends.count, axes.count == starts.count, steps.count == starts.count, !steps.contains(0) else {
      throw node.error("its starts, ends, axes and steps do not belong together", remedy: ImportError.fetchAgain)
    }
    var operation = Slice(starts: dimensions.map { _ in 0 }, sizes: dimensions, steps: dimensions.map { _ in 1 })
    for (index, given) in axes.enumerated() {
      let d = try axis(node, given, rank: dimensions.count), extent = dimensions[d], step = steps[index]
      // Exporters write the largest integer for "to the end".
      func place(_ value: Int, _ low: Int, _ high: Int) -> Int {
        min(max(value < 0 ? value.addingReportingOverflow(extent).partialValue : value, low), high)
      }
      let forward = step > 0
      let start = forward ? place(starts[index], 0, extent) : place(starts[index], 0, extent - 1)
      let end = forward ? place(ends[index], 0, extent) : (ends[index] < -extent ? -1 : place(ends[index], -1, extent - 1))
      let span = forward ? end - start : start - end
      let magnitude = Int(step.magnitude > UInt(Int.max) ? UInt(Int.max) : step.magnitude)
      (operation.starts[d], operation.steps[d]) = (start, span <= 0 ? 1 : step)
      operation.sizes[d] = span <= 0 ? 0 : (span - 1) / magnitude + 1
      if operation.sizes[d] <= 1 { operation.steps[d] = 1 }
      if operation.sizes[d] == 0 { operation.starts[d] = 0 }
    }
    if let tensor = try movedHere(node) {
      _ = try operation.outputType([TensorType(tensor.shape)])
      return define(node, host: try picked(node, operation.sizes, from: tensor) { operation.offsets(in: dimensions) })
    }
    try define(node, try add(operation, [try value(node, 0)], node))
  }

  // MARK: Lookups

  /// An index as the file gives it (negative ones count from the end), checked.
  private func place(_ node: ONNXNode, _ index: Int64, _ extent: Int, in shape: [Int]) throws -> Int {
    let place = index < 0 ? Int(index) + extent : Int(index)
    guard place >= 0, place < extent else { throw node.error("its index \(index) lies outside \(shape)", remedy: ImportError.fetchAgain) }
    return place
  }

  /// Parts along one axis by indices that are known: of tables here, of data by slices.
  mutating func gather(_ node: ONNXNode) throws {
    let source = try imported(node, 0), dimensions = shape(of: source)
    let indices = try host(node, 1, "indices")
    let axis = try axis(node, try node.integer("axis") ?? 0, rank: dimensions.count)
    let wanted = try indices.integers().map { try place(node, $0, dimensions[axis], in: dimensions) }
    let result = Array(dimensions[..<axis]) + indices.shape + dimensions[(axis + 1)...]
    var table: HostTensor?
    if case .host(let tensor) = source, !tensor.elementType.isFloatingPoint || tensor.elementCount <= Self.hostLimit {
      table = tensor
    } else if runs(wanted).count > Self.largestPartCount {
      table = try known(node, 0)
    }
    if let table {
      let strides = rowMajorStrides(dimensions)
      let found = try picked(node, result, from: table) {
        dimensions.indices.map { d in d == axis ? wanted.map { $0 * strides[d] } : (0..<dimensions[d]).map { $0 * strides[d] } }
      }
      return define(node, host: found)
    }
    guard !wanted.isEmpty else { throw node.error("it gathers nothing", remedy: "Export the model without it.") }
    let joined = try parts(wanted, of: try value(node, 0), axis: axis, node)
    try define(node, try add(Reshape(result), [joined], node))
  }

  /// Slices that one lookup in data may become.
  private static let largestPartCount = 256

  /// Indices as sequences of even steps: where each begins, its step and its length.
  private func runs(_ indices: [Int]) -> [(start: Int, step: Int, count: Int)] {
    var runs: [(start: Int, step: Int, count: Int)] = []
    for index in indices {
      if let last = runs.last {
        let step = index - (last.start + last.step * (last.count - 1))
        if step != 0, last.count == 1 || step == last.step {
          runs[runs.count - 1] = (last.start, step, last.count + 1)
          continue
        }
      }
      runs.append((index, 1, 1))
    }
    return runs
  }

  /// The parts of a value that these indices name, joined along the axis.
  mutating func parts(_ indices: [Int], of x: ValueID, axis: Int, _ node: ONNXNode) throws -> ValueID {
    let runs = runs(indices)
    guard runs.count <= Self.largestPartCount else {
      throw node.error("it gathers \(runs.count) parts", remedy: "Only a few constant indices are supported.")
    }
    let parts = try runs.map { run in
      let part = Slice(shape(x), axis: axis, from: run.start, step: run.step, count: run.count)
      return try add(part, [x], node)
    }
    return parts.count == 1 ? parts[0] : try add(Concat(axis: axis), parts, node)
  }

  /// Offsets of the elements, or of the blocks of elements, that rows of indices name.
  private func offsets(_ node: ONNXNode, _ indices: HostTensor, in shape: [Int]) throws -> [Int] {
    guard let depth = indices.shape.last, depth > 0, depth <= shape.count else {
      throw node.error("its indices \(indices.shape) do not fit \(shape)", remedy: ImportError.fetchAgain)
    }
    let strides = rowMajorStrides(shape), numbers = indices.integers()
    return try (0..<numbers.count / depth).map { row in
      try (0..<depth).reduce(0) { try $0 + place(node, numbers[row * depth + $1], shape[$1], in: shape) * strides[$1] }
    }
  }

  private mutating func gatherND(_ node: ONNXNode) throws {
    let data = try host(node, 0, "input"), indices = try host(node, 1, "indices")
    guard try node.integer("batch_dims") ?? 0 == 0 else { throw node.error("its batch_dims are not 0", remedy: "Export the model without it.") }
    let rows = try offsets(node, indices, in: data.shape), block = Array(data.shape[(indices.shape.last ?? 0)...])
    let found = try picked(node, indices.shape.dropLast() + block, from: data) { [rows, Array(0..<block.reduce(1, *))] }
    define(node, host: found)
  }

  /// y[i, j, …] = x[index[i, j, …], j, …], the index taking the axis' place.
  private mutating func gatherElements(_ node: ONNXNode) throws {
    let data = try host(node, 0, "input"), indices = try host(node, 1, "indices")
    let axis = try axis(node, try node.integer("axis") ?? 0, rank: data.shape.count)
    guard indices.shape.count == data.shape.count, indices.shape.indices.allSatisfy({ $0 == axis || indices.shape[$0] <= data.shape[$0] }) else {
      throw node.error("its indices \(indices.shape) do not fit \(data.shape)", remedy: ImportError.fetchAgain)
    }
    let strides = rowMajorStrides(data.shape), own = rowMajorStrides(indices.shape)
    let places = try indices.integers().map { try place(node, $0, data.shape[axis], in: data.shape) }
    let found = try picked(node, indices.shape, from: data) {
      let offsets = places.enumerated().map { position, place in
        data.shape.indices.reduce(0) { $0 + ($1 == axis ? place : position / own[$1] % indices.shape[$1]) * strides[$1] }
      }
      return [offsets]
    }
    define(node, host: found)
  }

  private mutating func scatterND(_ node: ONNXNode) throws {
    let data = try host(node, 0, "input"), indices = try host(node, 1, "indices"), updates = try host(node, 2, "updates")
    let reduction = try node.string("reduction") ?? "none"
    guard reduction == "none" else { throw node.error("its reduction \(quoted(reduction)) is not supported", remedy: "Export the model without it.") }
    let rows = try offsets(node, indices, in: data.shape), block = data.shape[(indices.shape.last ?? 0)...].reduce(1, *)
    let (count, overflow) = rows.count.multipliedReportingOverflow(by: block)
    guard !overflow, updates.elementCount == count else {
      throw node.error("its updates \(updates.shape) do not fit its indices \(indices.shape)", remedy: ImportError.fetchAgain)
    }
    try reserve(node, data.shape, .int64, limit: Self.largestComputed)
    var values = data.doubles()
    let new = updates.doubles()
    for (row, start) in rows.enumerated() { values.replaceSubrange(start..<start + block, with: new[row * block..<(row + 1) * block]) }
    define(node, host: try hostTensor(data.shape, values, like: data, node))
  }

  // MARK: Repetitions

  mutating func expand(_ node: ONNXNode) throws {
    let wanted = try host(node, 1, "shape").integers().map { Int($0) }
    let from = shape(of: try imported(node, 0))
    guard wanted.allSatisfy({ $0 >= 0 }), let shape = broadcastShape(from, wanted) else {
      throw node.error("\(from) does not expand to \(wanted)", remedy: ImportError.fetchAgain)
    }
    try expand(node, input: 0, to: shape)
  }

  /// One input, repeated to a shape that it broadcasts to, as the result.
  mutating func expand(_ node: ONNXNode, input: Int, to shape: [Int]) throws {
    if case .host(let tensor) = try imported(node, input), !tensor.elementType.isFloatingPoint {
      try reserve(node, shape, tensor.elementType)
      return define(node, host: tensor.expanded(to: shape))
    }
    let x = try value(node, input)
    try define(node, self.shape(x) == shape ? x : try add(Expand(shape), [x], node))
  }

  mutating func tile(_ node: ONNXNode) throws {
    let dimensions = shape(of: try imported(node, 0)), repeats = try host(node, 1, "repeats").integers().map { Int($0) }
    guard repeats.count == dimensions.count, repeats.allSatisfy({ $0 >= 0 && $0 <= 1 << 31 }) else {
      throw node.error("its repeats \(repeats) do not fit \(dimensions)", remedy: ImportError.fetchAgain)
    }
    let result = zip(dimensions, repeats).map { $0.multipliedReportingOverflow(by: $1) }
    guard !result.contains(where: \.overflow) else { throw node.error("its repeats \(repeats) are too many", remedy: ImportError.fetchAgain) }
    if let tensor = try movedHere(node) {
      let strides = rowMajorStrides(dimensions), shape = result.map(\.partialValue)
      let repeated = try picked(node, shape, from: tensor) { shape.indices.map { d in (0..<shape[d]).map { $0 % dimensions[d] * strides[d] } } }
      return define(node, host: repeated)
    }
    let x = try value(node, 0)
    // Each repeated dimension gets one before it, which is 1 and can be expanded.
    let ones = zip(dimensions, repeats).flatMap { extent, count in count == 1 ? [extent] : [1, extent] }
    let wide = zip(dimensions, repeats).flatMap { extent, count in count == 1 ? [extent] : [count, extent] }
    let repeated = ones == wide ? x : try add(Expand(wide), [try add(Reshape(ones), [x], node)], node)
    try define(node, try add(Reshape(result.map(\.partialValue)), [repeated], node))
  }

  // MARK: Between channels and pixels

  private func blockSize(_ node: ONNXNode, _ shape: [Int]) throws -> Int {
    guard shape.count == 4 else {
      throw node.error("its input has shape \(shape), and an image [N, C, H, W] is expected", remedy: ImportError.fetchAgain)
    }
    guard let size = try node.integer("blocksize"), (1...4096).contains(size) else {
      throw node.error("its blocksize is missing or not one", remedy: ImportError.fetchAgain)
    }
    return size
  }

  /// Channels become blocks of pixels.
  private mutating func depthToSpace(_ node: ONNXNode) throws {
    let x = try value(node, 0), s = shape(x), b = try blockSize(node, s)
    guard s[1] % (b * b) == 0 else { throw node.error("its blocksize \(b) does not divide \(s[1]) channels", remedy: ImportError.fetchAgain) }
    let depth = s[1] / (b * b)
    let mode = try node.string("mode") ?? "DCR"
    guard mode == "DCR" || mode == "CRD" else { throw node.error("its mode \(quoted(mode)) is not known", remedy: ImportError.fetchAgain) }
    let apart = try add(Reshape(mode == "DCR" ? [s[0], b, b, depth, s[2], s[3]] : [s[0], depth, b, b, s[2], s[3]]), [x], node)
    let moved = try add(Transpose(mode == "DCR" ? [0, 3, 4, 1, 5, 2] : [0, 1, 4, 2, 5, 3]), [apart], node)
    try define(node, try add(Reshape([s[0], depth, s[2] * b, s[3] * b]), [moved], node))
  }

  /// Columns, each a block of the image, channels first, become the image in which they are added up: [N, C · h · w, blocks] to
  /// [N, C, H, W], PyTorch's `fold`.
  private mutating func columnsToImage(_ node: ONNXNode) throws {
    let image = try host(node, 1, "image_shape").integers().map { Int($0) }
    let block = try host(node, 2, "block_shape").integers().map { Int($0) }
    let strides = try node.integers("strides") ?? [1, 1], dilations = try node.integers("dilations") ?? [1, 1]
    let pads = try node.integers("pads") ?? [0, 0, 0, 0], x = try value(node, 0), s = shape(x)
    let sizes = [image, block, strides, dilations]
    guard sizes.allSatisfy({ $0.count == 2 && $0.allSatisfy((1...Self.largestSide).contains) }), pads.count == 4,
      pads.allSatisfy((0...Self.largestPad).contains), block[0] * block[1] <= Self.largestPartCount, s.count == 3, s[1] % (block[0] * block[1]) == 0
    else {
      throw node.error("its blocks \(block), strides \(strides), dilations \(dilations) or pads \(pads) are not those of an image \(image)")
    }
    let padded = (0...1).map { image[$0] + pads[$0] + pads[$0 + 2] }, depth = s[1] / (block[0] * block[1])
    let room = (0...1).map { axis in padded[axis] - dilations[axis] * (block[axis] - 1) - 1 }
    let counts = (0...1).map { axis in room[axis] / strides[axis] + 1 }
    guard room[0] >= 0, room[1] >= 0, s[2] == counts[0] * counts[1] else {
      throw node.error("its input \(s) is not the columns of an image \(image)", remedy: ImportError.fetchAgain)
    }
    if block == strides, dilations == [1, 1], pads == [0, 0, 0, 0], zip(counts, block).map({ $0 * $1 }) == image {
      // Side by side.
      let apart = try add(Reshape([s[0], depth, block[0], block[1], counts[0], counts[1]]), [x], node)
      let moved = try add(Transpose([0, 1, 4, 2, 5, 3]), [apart], node)
      return try define(node, try add(Reshape([s[0], depth, image[0], image[1]]), [moved], node))
    }
    // Each place of the block as an image of its own, zeros between its pixels.
    let images = s[0] * depth, apart = try add(Reshape([images, block[0] * block[1], counts[0], counts[1]]), [x], node)
    let spread = (0...1).map { (counts[$0] - 1) * strides[$0] + 1 }
    var sum: ValueID?
    for place in 0..<block[0] * block[1] {
      let part = try add(Slice([images, block[0] * block[1], counts[0], counts[1]], axis: 1, from: place, count: 1), [apart], node)
      let pixels = try add(Reshape([images, counts[0], 1, counts[1], 1]), [part], node)
      let sparse = try add(Pad(before: [0, 0, 0, 0, 0], after: [0, 0, strides[0] - 1, 0, strides[1] - 1]), [pixels], node)
      let grid = try add(Reshape([images, counts[0] * strides[0], counts[1] * strides[1]]), [sparse], node)
      let whole = try add(Slice(starts: [0, 0, 0], sizes: [images] + spread, steps: [1, 1, 1]), [grid], node)
      let first = [place / block[1] * dilations[0], place % block[1] * dilations[1]]
      let after = (0...1).map { padded[$0] - first[$0] - spread[$0] }
      let placed = try add(Pad(before: [0] + first, after: [0] + after), [whole], node)
      sum = try sum.map { try add(Binary(.add), [$0, placed], node) } ?? placed
    }
    guard let sum else { return }
    let inner = try add(Slice(starts: [0, pads[0], pads[1]], sizes: [images] + image, steps: [1, 1, 1]), [sum], node)
    try define(node, try add(Reshape([s[0], depth, image[0], image[1]]), [inner], node))
  }

  /// Blocks of pixels become channels.
  private mutating func spaceToDepth(_ node: ONNXNode) throws {
    let x = try value(node, 0), s = shape(x), b = try blockSize(node, s)
    guard s[2] % b == 0, s[3] % b == 0 else { throw node.error("its blocksize \(b) does not divide \(s)", remedy: ImportError.fetchAgain) }
    let apart = try add(Reshape([s[0], s[1], s[2] / b, b, s[3] / b, b]), [x], node)
    let moved = try add(Transpose([0, 3, 5, 1, 2, 4]), [apart], node)
    try define(node, try add(Reshape([s[0], b * b * s[1], s[2] / b, s[3] / b]), [moved], node))
  }
}

extension Slice {
  /// Some of one axis, all of the others.
  fileprivate init(_ shape: [Int], axis: Int, from start: Int, step: Int = 1, count: Int) {
    self.init(starts: shape.map { _ in 0 }, sizes: shape, steps: shape.map { _ in 1 })
    (starts[axis], steps[axis], sizes[axis]) = (start, count > 1 ? step : 1, count)
  }

  /// Where in a tensor of this shape the elements lie, by dimension.
  func offsets(in shape: [Int]) -> [[Int]] {
    zip(rowMajorStrides(shape), shape.indices).map { stride, d in (0..<sizes[d]).map { (starts[d] + $0 * steps[d]) * stride } }
  }
}
