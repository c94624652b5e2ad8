import GraftGraph

extension Backbone {
  /// Runs what works with this file's graph: an error of the graph, which knows of no files, comes back naming this one.
  ///
  /// - Throws: what `body` throws; `ImportError` for a `ShapeError` or a `LoweringError`, `PlanMemoryError` with the file.
  public func namingFile<Result>(_ body: () throws -> Result) throws -> Result {
    do {
      return try body()
    } catch let error as PlanMemoryError {
      throw error.naming(file: path)
    } catch let error as ShapeError {
      throw importError(error.operation, error.node, error.message)
    } catch let error as LoweringError {
      throw importError(error.operation, error.node, error.message)
    }
  }

  private func importError(_ operation: String, _ node: String, _ message: String) -> ImportError {
    ImportError(
      file: path, node: node.isEmpty ? operation : "node \(quoted(node)) (\(operation))", what: message,
      remedy: "Check the input's shape; if that is right, export the model again, or choose another.")
  }

  /// Checks that a graph of this file gives each image of a batch what it would get alone.
  ///
  /// - Throws: `ImportError` that names the node that joins images.
  public func checkImagesStayApart(in graph: Graph) throws(ImportError) {
    guard let node = graph.nodeJoiningImages() else { return }
    let name = node.name.isEmpty ? graph[node.output].name : node.name
    throw ImportError(
      file: path, node: name.isEmpty ? node.operation.kind : "node \(quoted(name)) (\(node.operation.kind))",
      what: "it makes one result of all images of a batch, so that features would depend on an image's neighbours",
      remedy: "Give --batch-size 1, or export a model that treats each image on its own.")
  }

  /// Checks a shape that a graph is asked for.
  ///
  /// - Throws: `ImportError` if no tensor can have it.
  func check(inputShape: [Int]) throws(ImportError) {
    guard inputShape.allSatisfy({ $0 > 0 }), (try? TensorError.byteCount(shape: inputShape, elementType: .float32)) != nil else {
      throw ImportError(
        file: path, what: "its input would have shape \(inputShape)", remedy: "Give images of another size, or a smaller --batch-size.")
    }
  }
}
