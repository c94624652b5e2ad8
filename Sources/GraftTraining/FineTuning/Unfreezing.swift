import Foundation
import GraftBackbones
import GraftData
import GraftGraph

/// Which part of a backbone fine-tuning trains beside the head.
public enum Unfreezing: Sendable, Equatable {
  /// All of it, from images.
  case all
  /// The last blocks (`Graph.blockCuts`).
  case blocks(Int)
  /// Parameters whose name matches a shell pattern, as `blocks.6.*`.
  case pattern(String)

  /// "all", a number, or a pattern.
  public init?(_ text: String) {
    if text == "all" {
      self = .all
    } else if let count = Int(text) {
      guard count > 0 else { return nil }
      self = .blocks(count)
    } else {
      guard !text.isEmpty else { return nil }
      self = .pattern(text)
    }
  }

  /// Whether a parameter of the backbone is trained, if it lies after the cut.
  public func includes(_ name: String) -> Bool {
    if case .pattern(let pattern) = self { fnmatch(pattern, name, 0) == 0 } else { true }
  }
}

/// Where a backbone is cut so that what is to be trained lies after it.
public struct MovedCut: Sendable {
  /// The value's name; `nil`: the image itself.
  public let name: String?
  /// The shape of a sample there, in the model's own order of dimensions.
  public let shape: [Int]
  /// Parameters that are trained, and how many numbers they are.
  public let parameterNames: [String]
  public let parameterCount: Int
  /// Whether batch normalisations lie after it, whose statistics can follow the batches.
  public let hasNormalizations: Bool

  /// - Parameters:
  ///   - feature: the name of the cut whose features the head takes.
  /// - Throws: `ImportError` if nothing matches, or there are fewer blocks.
  public init(_ backbone: Backbone, feature: String, preprocessing: Preprocessing, unfreezing: Unfreezing) throws {
    var graph = try backbone.graph(imageShape: [1, 3, preprocessing.height, preprocessing.width], with: feature)
    let end = try FrozenBackbone.cutValue(of: graph, named: feature, backbone: backbone)
    graph.outputs = [end]
    let image = Array(graph.type(of: graph.inputs[0]).shape.dropFirst())
    func refuse(_ what: String, _ remedy: String) -> ImportError { ImportError(file: backbone.path, what: what, remedy: remedy) }
    let cut: Cut?
    switch unfreezing {
    case .all: cut = nil
    case .blocks(let count):
      let blocks = graph.blockCuts(before: end)
      guard count <= blocks.count else {
        throw refuse(
          "\(count) \(count == 1 ? "block was" : "blocks were") to be trained, and of its \(blocks.count + 1) at most \(blocks.count) can be from stored rows",
          "Use --unfreeze all to train it from images.")
      }
      cut = blocks[blocks.count - count]
    case .pattern(let pattern):
      let parameters = try graph.preparedForTraining().parameters(), wanted = parameters.count { unfreezing.includes($0.name) }
      guard wanted > 0 else {
        let names = parameters.suffix(4).map { "'\($0.name)'" }.joined(separator: ", ")
        throw refuse("none of its parameters matches '\(pattern)'", "The last ones are \(names).")
      }
      // The last cut that all of them lie after; an earlier one has no fewer.
      let cuts = graph.cuts().filter { $0.value.index <= end.index }
      var (after, before) = (0, cuts.count)
      while after < before {
        let middle = (after + before) / 2
        let found = try graph.following(cuts[middle].value).preparedForTraining().parameters().count { unfreezing.includes($0.name) }
        if found == wanted { after = middle + 1 } else { before = middle }
      }
      cut = after > 0 ? cuts[after - 1] : nil
    }
    let tail = try cut.map { try graph.following($0.value) } ?? graph
    let prepared = try tail.preparedForTraining(), trained = prepared.parameters().filter { unfreezing.includes($0.name) }
    guard !trained.isEmpty else { throw refuse("there is no parameter after '\(cut?.name ?? "the image")'", "Unfreeze more of it.") }
    (name, shape) = (cut?.name, cut?.shape ?? image)
    hasNormalizations = !prepared.normalizationStatistics().isEmpty
    parameterNames = trained.map(\.name)
    parameterCount = trained.reduce(0) { $0 + $1.tensor.elementCount }
  }
}
