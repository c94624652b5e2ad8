import GraftBackbones
import GraftData
import GraftDevice
import GraftGraph

/// A backbone up to its cut, on a device: bytes of prepared images in, rows of features out.
///
/// Normalisation is part of the plan, so images travel to the device as bytes.
///
/// Where the device's memory does not suffice, for the plan or while it runs, the batch is halved, which is noted, until it
/// fits; rows are the same bits whatever the batch.
public final class FrozenBackbone: FeatureComputing {
  /// Images a call should have; more are computed in parts, as fewer are where memory has run out since.
  public let batchSize: Int
  public let featureShape: [Int]
  /// The name of the cut.
  public let cut: String
  /// Images the device computes at a time.
  public var deviceBatchSize: Int { prepared?.batchSize ?? 0 }
  private let make: (Int) throws -> PreparedBackbone
  private var prepared: PreparedBackbone?

  /// Where a backbone is cut, before anything is computed.
  public struct Description: Sendable {
    public let cut: String
    public let featureShape: [Int]
    /// Every cut there is, for messages.
    public let cuts: [Cut]
  }

  /// Finds the cut by name; `nil` is the default one, the classifier's input.
  ///
  /// - Throws: `ImportError` that lists some cuts if there is none of that name.
  public static func describe(_ backbone: Backbone, cut name: String?, preprocessing: Preprocessing) throws -> Description {
    let graph = try backbone.graph(inputShape: [1, 3, preprocessing.height, preprocessing.width])
    let value = try cutValue(of: graph, named: name, backbone: backbone)
    return Description(cut: graph[value].name, featureShape: Array(graph.type(of: value).shape.dropFirst()), cuts: graph.cuts())
  }

  static func cutValue(of graph: Graph, named name: String?, backbone: Backbone) throws -> ValueID {
    if let name {
      let cuts = graph.cuts()
      if let found = cuts.first(where: { $0.name == name })?.value ?? graph.outputs.first(where: { graph[$0].name == name }) { return found }
      let known = cuts.suffix(6).map { "'\($0.name)'" }.joined(separator: ", ")
      throw ImportError(
        file: backbone.path,
        what: graph.value(named: name) == nil ? "it has no value '\(name)'" : "it can't be cut at '\(name)': other values go past it",
        remedy: "The last cuts are \(known); 'graft inspect \(backbone.path)' lists all of them.")
    }
    guard let found = graph.defaultCut() else {
      throw ImportError(file: backbone.path, what: "it has no output", remedy: "Export the model again.")
    }
    return found
  }

  /// - Throws: `ImportError`; `PlanMemoryError` before anything is allocated, if not even one image fits; `DeviceError`,
  ///   `BuildError`.
  public init(
    _ backbone: Backbone, cut name: String?, preprocessing: Preprocessing, batchSize: Int, device: any Device, options: PlanOptions = PlanOptions()
  ) throws {
    let description = try Self.describe(backbone, cut: name, preprocessing: preprocessing)
    (cut, featureShape) = (description.cut, description.featureShape)
    make = { batchSize in
      try PreparedBackbone(backbone, cut: name, preprocessing: preprocessing, batchSize: batchSize, device: device, options: options)
    }
    let first = try Self.halving(batchSize, device: device.traits.identifier, make)
    prepared = first
    self.batchSize = first.batchSize
    self.device = device.traits.identifier
  }

  private let device: String

  /// Makes the plan for a batch, or for half of it, and so on, as long as memory is what is missing.
  private static func halving(_ batchSize: Int, device: String, _ make: (Int) throws -> PreparedBackbone) throws -> PreparedBackbone {
    var batchSize = batchSize
    while true {
      do {
        return try make(batchSize)
      } catch  where isOutOfMemory(error) && batchSize > 1 {
        note(batchSize, device, error)
        batchSize /= 2
      }
    }
  }

  private static func note(_ batchSize: Int, _ device: String, _ error: any Error) {
    DeviceNotes.note("\(device): a batch of \(batchSize) does not fit, so it is halved to \(batchSize / 2) (\(error))")
  }

  private static func isOutOfMemory(_ error: any Error) -> Bool {
    switch error {
    case is PlanMemoryError: true
    case let error as DeviceError: error.isOutOfMemory
    default: false
    }
  }

  public func features(ofBatch images: UnsafeRawBufferPointer, count: Int, into target: UnsafeMutableBufferPointer<Float>) throws {
    guard count > 0 else { return }
    let (width, imageByteCount) = (featureShape.reduce(1, *), images.count / count)
    precondition(target.count >= width * count)
    var done = 0
    while done < count {
      let current = try prepared ?? Self.halving(batchSize, device: device, make)
      prepared = current
      let part = min(current.batchSize, count - done)
      do {
        try current.features(
          of: UnsafeRawBufferPointer(rebasing: images[done * imageByteCount..<(done + part) * imageByteCount]), count: part,
          into: UnsafeMutableBufferPointer(rebasing: target[done * width..<(done + part) * width]))
        done += part
      } catch  where Self.isOutOfMemory(error) && current.batchSize > 1 {
        Self.note(current.batchSize, device, error)
        try shrink(to: current.batchSize / 2)
      }
    }
  }

  /// The old plan's memory is given back before the new one's is asked for.
  private func shrink(to batchSize: Int) throws {
    prepared = nil
    prepared = try Self.halving(batchSize, device: device, make)
  }
}

/// A backbone's plan for a batch, and the memory of one batch on this side.
private final class PreparedBackbone {
  let batchSize: Int
  private let plan: Plan
  private let input: ValueID
  private let output: ValueID
  private let width: Int
  /// Bytes and features of one batch; what lies beyond a short batch is computed and thrown away.
  private let bytes: UnsafeMutableRawBufferPointer
  private var rows: [Float]

  init(_ backbone: Backbone, cut name: String?, preprocessing: Preprocessing, batchSize: Int, device: any Device, options: PlanOptions) throws {
    let shape = [batchSize, 3, preprocessing.height, preprocessing.width]
    let whole = try backbone.graph(inputShape: shape)
    let value = try FrozenBackbone.cutValue(of: whole, named: name, backbone: backbone)
    width = whole.type(of: value).shape.dropFirst().reduce(1, *)
    guard whole.type(of: value).shape.first == batchSize else {
      throw ImportError(
        file: backbone.path, what: "its features have shape \(whole.type(of: value).shape) for a batch of \(batchSize)",
        remedy: "The model was exported for a fixed batch: use --batch-size 1, or export it with an open one.")
    }
    plan = try backbone.namingFile {
      try Plan(
        whole.frozen(at: value).takingImageBytes(scale: preprocessing.scale, shift: preprocessing.shift), device: device, options: options)
    }
    (input, output) = (plan.graph.inputs[0], plan.graph.outputs[0])
    self.batchSize = batchSize
    bytes = .allocate(byteCount: batchSize * preprocessing.byteCount, alignment: 64)
    bytes.initializeMemory(as: UInt8.self, repeating: 0)
    rows = [Float](repeating: 0, count: batchSize * width)
  }

  deinit { bytes.deallocate() }

  func features(of images: UnsafeRawBufferPointer, count: Int, into target: UnsafeMutableBufferPointer<Float>) throws {
    precondition(count <= batchSize && images.count == bytes.count / batchSize * count && target.count >= width * count)
    bytes.copyMemory(from: images)
    try plan.write(UnsafeRawBufferPointer(bytes), to: input)
    try plan.run()
    try rows.withUnsafeMutableBytes { try plan.read(output, into: $0) }
    rows.withUnsafeBufferPointer { _ = target.update(fromContentsOf: $0[..<(width * count)]) }
  }
}
