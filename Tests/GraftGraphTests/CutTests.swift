import GraftGraph
import Testing

/// Where a network is divided if nobody says where.
@Suite struct CutTests {
  private func weights(_ graph: inout Graph, _ rows: Int, _ columns: Int) -> ValueID {
    graph.addConstant(HostTensor([rows, columns], Array(repeating: 0.5, count: rows * columns)))
  }

  private func layer(_ graph: inout Graph, _ x: ValueID, _ columns: Int, name: String = "") throws -> ValueID {
    try graph.add(MatMul(), [x, weights(&graph, graph.type(of: x).shape[1], columns)], name: name)
  }

  /// A network with its features under that name.
  private func network(_ end: (inout Graph, ValueID) throws -> ValueID) throws -> Graph {
    var graph = Graph()
    let x = graph.addInput(TensorType([2, 5]), name: "x")
    let features = try graph.add(Unary(.relu), [try layer(&graph, x, 6)], name: "pooled")
    graph.outputs = [try end(&graph, features)]
    return graph
  }

  private func name(_ graph: Graph) throws -> String { graph[try #require(graph.defaultCut())].name }

  @Test func itIsTheClassifiersInput() throws {
    #expect(try name(network { graph, x in try layer(&graph, x, 3, name: "scores") }) == "pooled")
    let probabilities = try network { graph, x in
      let bias = graph.addConstant(HostTensor([3], [1, 2, 3]))
      return try graph.add(Softmax(axis: 1), [try graph.add(Binary(.add), [try layer(&graph, x, 3), bias])], name: "probabilities")
    }
    #expect(try name(probabilities) == "pooled")
  }

  /// LeViT's two heads, each with a normalisation of its own.
  @Test func ofClassifiersThatAreAveragedItIsWhatTheyShare() throws {
    let graph = try network { graph, x in
      let heads = try (0..<2).map { _ in
        let statistics = (0..<4).map { _ in graph.addConstant(HostTensor([6], Array(repeating: 1, count: 6))) }
        return try layer(&graph, try graph.add(BatchNorm(epsilon: 1e-5), [x] + statistics), 3)
      }
      let sum = try graph.add(Binary(.add), heads)
      return try graph.add(Binary(.divide), [sum, graph.addConstant(HostTensor([], [2]))], name: "scores")
    }
    #expect(try name(graph) == "pooled")
  }

  /// A perceptron with a residual at the end makes features.
  @Test func anEndThatIsNotLinearIsTheFeatures() throws {
    let perceptron = try network { graph, x in
      let inner = try graph.add(Unary(.gelu), [try layer(&graph, x, 12)])
      return try graph.add(Binary(.add), [x, try layer(&graph, inner, 6)], name: "embedding")
    }
    #expect(try name(perceptron) == "embedding")
  }
}
