extension Graph {
  /// The first node that makes one result of several images of a batch and whose result an output depends on; nil if there is none.
  ///
  /// The first dimension of the first input counts images. A file that was exported for a batch of one image may reduce over all dimensions
  /// alike, and attention may have been given its batch where it expects tokens: such features would depend on an image's neighbours.
  /// What is known is where images lie in each value. A node that is reported does join images; one whose images can't be
  /// followed (they no longer lie in one dimension) is not.
  public func nodeJoiningImages() -> Node? {
    guard let input = inputs.first(where: { !variables.contains($0) }), let count = type(of: input).shape.first, count > 1 else { return nil }
    var needed = Set(outputs)
    for node in nodes.reversed() where needed.contains(node.output) { needed.formUnion(node.inputs) }
    var places: [ValueID: ImagePlace] = [input: .dimension(0, inner: 1)]
    for node in nodes where needed.contains(node.output) {
      let follower = ImageFollower(
        count: count, inputs: node.inputs.map { type(of: $0).shape }, output: type(of: node.output).shape,
        places: node.inputs.map { places[$0] ?? .nowhere })
      let place = follower.place(node.operation)
      if place == .joined { return node }
      places[node.output] = place
    }
    return nil
  }
}

/// Where the images of a batch lie in a value.
private enum ImagePlace: Equatable {
  /// The value depends on no image.
  case nowhere
  /// Index i of this dimension belongs to image (i / inner) mod count.
  case dimension(Int, inner: Int)
  /// An element depends on several images.
  case joined
  /// Not followed any further.
  case unknown
}

/// Follows images through one operation.
private struct ImageFollower {
  let count: Int
  let inputs: [[Int]]
  let output: [Int]
  let places: [ImagePlace]

  func place(_ operation: any Operation) -> ImagePlace {
    if places.allSatisfy({ $0 == .nowhere }) { return .nowhere }
    if places.contains(.unknown) { return .unknown }
    return switch operation {
    case is Binary: broadcast(places)
    case is Unary, is NormalizeImage, is BatchNorm: elementwise()
    case is LayerNorm, is LocalResponseNorm: alongRows()
    case let softmax as Softmax: dimension(0) == softmax.axis ? .joined : places[0]
    case let reduce as Reduce: reduced(reduce)
    case let transpose as Transpose: dimension(0).flatMap { transpose.permutation.firstIndex(of: $0) }.map { moved(to: $0) } ?? .unknown
    case is Reshape: reshaped()
    case let slice as Slice: sliced(slice)
    case let pad as Pad: dimension(0).map { pad.before[$0] == 0 && pad.after[$0] == 0 } == true ? places[0] : .unknown
    case is Expand: broadcast([places[0]])
    case let concat as Concat: concatenated(concat)
    case let product as MatMul: multiplied(product)
    case is Conv2D: convolved()
    case is Pool2D: dimension(0) == 0 ? places[0] : .unknown
    case let attention as Attention: attended(attention)
    case is TopK: dimension(0) == inputs[0].count - 1 ? .joined : places[0]
    case is ChannelMoments: dimension(0) == inputs[0].count - 1 ? .unknown : .joined
    default: .unknown
    }
  }

  private func dimension(_ input: Int) -> Int? {
    if case .dimension(let dimension, _) = places[input] { dimension } else { nil }
  }

  /// The first input's place in another dimension.
  private func moved(to dimension: Int) -> ImagePlace {
    guard case .dimension(_, let inner) = places[0] else { return places[0] }
    return .dimension(dimension, inner: inner)
  }

  /// A result of the first input, which others scale and shift.
  private func elementwise() -> ImagePlace { places.dropFirst().allSatisfy { $0 == .nowhere } ? places[0] : .unknown }

  private func alongRows() -> ImagePlace { dimension(0) == inputs[0].count - 1 ? .joined : elementwise() }

  /// Values that meet element by element, aligned at their last dimensions.
  private func broadcast(_ places: [ImagePlace]) -> ImagePlace {
    combined(
      zip(places, inputs).map { place, shape in
        guard case .dimension(let dimension, let inner) = place else { return place }
        return .dimension(dimension + output.count - shape.count, inner: inner)
      })
  }

  /// Values whose elements of one image meet, or of several if their images lie in different dimensions.
  private func combined(_ places: [ImagePlace]) -> ImagePlace {
    var result = ImagePlace.nowhere
    for place in places {
      switch (result, place) {
      case (.nowhere, _): result = place
      case (_, .nowhere): break
      case (.dimension(let a, _), .dimension(let b, _)) where a != b: return .joined
      default: if result != place { return .unknown }
      }
    }
    return result
  }

  private func reduced(_ reduce: Reduce) -> ImagePlace {
    guard let dimension = dimension(0) else { return .unknown }
    if reduce.axes.contains(dimension) { return .joined }
    return moved(to: reduce.keepsDimensions ? dimension : dimension - reduce.axes.count { $0 < dimension })
  }

  /// Elements keep their order: images lie as far apart as before.
  private func reshaped() -> ImagePlace {
    guard case .dimension(let dimension, let inner) = places[0] else { return .unknown }
    let distance = inner * inputs[0][(dimension + 1)...].reduce(1, *)
    var after = 1
    for place in output.indices.reversed() {
      let within = after * output[place]
      // The last of the dimensions that step over a whole image, those of extent 1 aside.
      if distance % after == 0, within % (distance * count) == 0 { return .dimension(place, inner: distance / after) }
      after = within
    }
    return .unknown
  }

  private func sliced(_ slice: Slice) -> ImagePlace {
    guard case .dimension(let dimension, let inner) = places[0] else { return .unknown }
    if slice.sizes[dimension] == inputs[0][dimension], slice.steps[dimension] == 1 { return places[0] }
    // Some images of the batch, whichever image a result is for.
    return inner == 1 && inputs[0][dimension] == count && slice.sizes[dimension] < count ? .joined : .unknown
  }

  private func concatenated(_ concat: Concat) -> ImagePlace {
    guard zip(places, inputs).contains(where: { place, _ in if case .dimension(concat.axis, _) = place { true } else { false } }) else {
      return combined(places)
    }
    // A batch after another.
    return places.allSatisfy { $0 == places[0] } ? places[0] : .unknown
  }

  private func multiplied(_ product: MatMul) -> ImagePlace {
    func terms(_ input: Int, isTransposed: Bool) -> Int { inputs[input].count - (isTransposed ? 2 : 1) }
    let summed = [terms(0, isTransposed: product.transposeA), terms(1, isTransposed: !product.transposeB)]
    var aligned: [ImagePlace] = []
    for input in places.indices {
      guard case .dimension(let dimension, let inner) = places[input] else {
        aligned.append(places[input])
        continue
      }
      let rank = inputs[input].count
      guard input < 2, dimension >= rank - 2 else {
        aligned.append(.dimension(dimension + output.count - rank, inner: inner))
        continue
      }
      if dimension == summed[input] { return .joined }
      aligned.append(.dimension(output.count - (input == 0 ? 2 : 1), inner: inner))
    }
    return combined(aligned)
  }

  private func convolved() -> ImagePlace {
    guard dimension(0) == 0, places[1] == .nowhere else { return .unknown }
    return combined(places)
  }

  private func attended(_ attention: Attention) -> ImagePlace {
    let tokens = attention.layout == .heads ? 2 : 1
    if attention.layout == .packed ? dimension(0) == tokens : dimension(1) == tokens || dimension(2) == tokens { return .joined }
    let operands = places.prefix(attention.operandCount)
    guard operands.allSatisfy({ $0 == operands[0] }), dimension(0) == 0 else { return .unknown }
    guard attention.hasMask, let mask = places.last, mask != .nowhere else { return places[0] }
    return inputs.last?.count == 4 && mask == places[0] ? places[0] : .unknown
  }
}
