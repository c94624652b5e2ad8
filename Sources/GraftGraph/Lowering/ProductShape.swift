import GraftDevice

/// What the kernel of a product on the GPU family is chosen for: its extents, an image's share of them.
///
/// Where k is cut decides the last bits of a sum. So that a row does not depend on how many images are computed with it, the
/// number of cuts is a function of one image's extents; the tile, which changes no bit, is chosen for the batch.
package struct ProductShape: Sendable, Hashable {
  package enum Kind: String, Sendable {
    case product, packed, convolution
    /// The gradient of a convolution with respect to its weights: outputs by taps and channels, over all pixels of a batch.
    case weights
  }
  /// What a batch has more of.
  package enum Images: String, Sendable {
    /// Rows: a layer's product with its weights, a convolution.
    case rows
    /// Matrices: a product of what was computed with what was computed.
    case matrices
    /// Nothing.
    case none
  }

  package var kind: Kind
  /// Extents of one image's product, and how many products it has (matrices of a batch, or groups).
  package var m, n, k, count: Int
  package var images: Images
  package var transposeA = false, transposeB = false
  /// Of a convolution and its gradient: the kernel, its stride and its dilation.
  package var kernel = Pair(1), stride = Pair(1), dilation = Pair(1)
  /// Of a convolution: whether its weights are another in every run, as in training, so that packing or transforming them is part of it.
  package var weightsVary = false

  package init(
    kind: Kind, m: Int, n: Int, k: Int, count: Int, images: Images, transposeA: Bool = false, transposeB: Bool = false
  ) {
    (self.kind, self.m, self.n, self.k, self.count, self.images) = (kind, m, n, k, count, images)
    (self.transposeA, self.transposeB) = (transposeA, transposeB)
  }

  /// Images the number of cuts is chosen for. With fewer, small products leave a part of a large GPU idle; had it been chosen for
  /// fewer, large batches would pay for sums they do not need.
  static let nominalImageCount = 64

  /// The extents for so many images.
  func rows(_ imageCount: Int) -> Int { images == .rows ? m * imageCount : m }
  func products(_ imageCount: Int) -> Int { images == .matrices ? count * imageCount : count }

  /// Whether it is a convolution that Winograd's transforms are made for.
  var isWinogradConvolution: Bool { kind == .convolution && kernel == Pair(3) && stride == Pair(1) && dilation == Pair(1) && count == 1 }

  /// Its name in the file of tuned kernels.
  package var text: String {
    var text = "\(kind.rawValue) \(m)x\(n)x\(k)"
    if count > 1 || images == .matrices { text += " of \(count)" }
    if images != .none { text += " an image" }
    if transposeA { text += " a transposed" }
    if transposeB { text += " b transposed" }
    if kind == .convolution || kind == .weights {
      text += " kernel \(kernel.h)x\(kernel.w) stride \(stride.h)x\(stride.w) dilation \(dilation.h)x\(dilation.w)"
    }
    if weightsVary { text += " weights vary" }
    return text
  }
}

/// A kernel that was chosen while a graph was lowered: what a tuner looks at.
package struct ProductChoice: Sendable {
  package let shape: ProductShape
  package let imageCount: Int
  package let kernel: ProductKernel
  /// The node, as a number in the graph's order.
  package let time: Int
}

extension LoweringContext {
  /// Images of the batch, or of the part of it that launches are for.
  var imageCount: Int { tile?.images ?? options.imageCount ?? graph.inputs.first.flatMap { graph.type(of: $0).shape.first } ?? 1 }

  /// The shape of a product: `hasWeights` if the second matrix is a constant, so that what a batch has more of is rows.
  func productShape(m: Int, n: Int, k: Int, count: Int, transposeA: Bool, transposeB: Bool, kind: ProductShape.Kind, hasWeights: Bool)
    -> ProductShape
  {
    let images = imageCount
    var shape = ProductShape(kind: kind, m: m, n: n, k: k, count: count, images: .none, transposeA: transposeA, transposeB: transposeB)
    guard images > 0 else { return shape }
    if hasWeights, !transposeA, count == 1 {
      if m % images == 0 { (shape.m, shape.images) = (m / images, .rows) }
    } else if count % images == 0 {
      (shape.count, shape.images) = (count / images, .matrices)
    }
    return shape
  }

  /// The kernel of a product that does not run on a matrix unit: what was found by tuning, else what the model of costs says.
  mutating func chooseProduct(_ shape: ProductShape, vectors: GEMMVectors, mayBeSkinny: Bool) -> ProductKernel {
    let images = imageCount
    func choose(_ images: Int, mayBeSkinny: Bool, splits: Int? = nil) -> ProductKernel {
      ProductKernel.choose(
        m: shape.rows(images), n: shape.n, k: shape.k, count: shape.products(images), vectors: vectors, mayBeSkinny: mayBeSkinny, splits: splits,
        traits: traits)
    }
    var kernel = choose(shape.images == .none ? images : ProductShape.nominalImageCount, mayBeSkinny: mayBeSkinny)
    if ProductKernel.forced == nil {
      var isTuned = false
      if let tuned = options.tuning?[shape, ComputeFormat(precision), unit: nil],
        tuned.kernel.runs(shape, imageCount: images, vectors, mayBeSkinny, traits)
      {
        (kernel, isTuned) = (tuned.kernel, tuned.imageCount == images)
      }
      // The tile is that of this batch, the cuts those of every batch.
      if case .tiled(_, let splits) = kernel, !isTuned { kernel = choose(images, mayBeSkinny: false, splits: splits) }
    }
    choices.append(ProductChoice(shape: shape, imageCount: images, kernel: kernel, time: time))
    return kernel
  }

  /// The same on the device's matrix unit; `nil` where that does not take it.
  mutating func chooseOnMatrixUnit(_ shape: ProductShape, vectors: MatrixVectors, gathers: Bool) -> (tile: MatrixTile, splits: Int)? {
    let images = imageCount
    func choose(_ images: Int, splits: Int? = nil, byGroups: Bool? = nil) -> (tile: MatrixTile, splits: Int)? {
      ProductKernel.chooseMatrix(
        m: shape.rows(images), n: shape.n, k: shape.k, count: shape.products(images), vectors: vectors, gathers: gathers, splits: splits,
        byGroups: byGroups, fills: shape.images == .none, format: format, traits: traits)
    }
    guard let unit = traits.matrixUnit, var (tile, splits) = choose(shape.images == .none ? images : ProductShape.nominalImageCount) else {
      return nil
    }
    if ProductKernel.forced == nil {
      let tuned = options.tuning?[shape, format, unit: unit]
      if case .matrix(let known, let knownSplits)? = tuned?.kernel,
        ProductKernel.splitCounts(k: shape.k, tileK: known.tileK).contains(knownSplits)
          || (shape.images == .none && ProductKernel.mayFill(knownSplits, k: shape.k, tileK: known.tileK))
      {
        (tile, splits) = (known, knownSplits)
        if tuned?.imageCount == images, known.fits(traits, vectors: vectors), !gathers || known.hasRoomForWindows(on: unit.kind) {
          choices.append(ProductChoice(shape: shape, imageCount: images, kernel: .matrix(known, splits: splits), time: time))
          return (known, splits)
        }
      }
      guard let chosen = choose(images, splits: splits, byGroups: tile.isByGroups) ?? choose(images, splits: splits) else { return nil }
      tile = chosen.tile
    }
    choices.append(ProductChoice(shape: shape, imageCount: images, kernel: .matrix(tile, splits: splits), time: time))
    return (tile, splits)
  }
}

extension ProductShape {
  /// Whether reading the longer operand once is all that matters. Where images have rows, those do not count: one kernel serves
  /// every batch.
  func isSkinny(_ imageCount: Int, _ traits: DeviceTraits) -> Bool {
    ProductKernel.isSkinny(m: images == .rows ? .max : rows(imageCount), n: n, k: k, traits)
  }
}

extension ProductKernel {
  /// Whether a kernel that does not use a matrix unit takes a shape.
  func runs(_ shape: ProductShape, imageCount: Int, _ vectors: GEMMVectors, _ mayBeSkinny: Bool, _ traits: DeviceTraits) -> Bool {
    switch self {
    case .naive: true
    case .tiled(let tile, let splits):
      tile.fits(traits) && tile.suits(vectors) && ProductKernel.splitCounts(k: shape.k, tileK: tile.tileK).contains(splits)
    case .skinny: mayBeSkinny && shape.isSkinny(imageCount, traits)
    case .matrix, .winograd: false
    }
  }
}
