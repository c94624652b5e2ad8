/// Every operation that a graph is built of. Tests and benchmarks walk this list; one that is missing here does not exist.
/// (`SeparableConv2D` is what a plan makes of three of them, for itself.)
public enum OperationList {
  public static let all: [any Operation.Type] = [
    ActivationGradient.self, Attention.self, AttentionGradient.self, BatchNorm.self, Binary.self, Blend.self, ChannelAffine.self,
    ChannelMoments.self, ChannelSums.self, Concat.self, Conv2D.self, Conv2DWeightGradient.self, CrossEntropy.self, Expand.self, LayerNorm.self,
    LayerNormGradient.self, LocalResponseNorm.self, MatMul.self, NormalizeImage.self, OptimizerStep.self, Pad.self, Place.self, Pool2D.self,
    Pool2DGradient.self, Reduce.self, Reshape.self, SampleLoss.self, Slice.self, Softmax.self, SquareSum.self, TopK.self, TopKGradient.self,
    Transpose.self, Unary.self,
  ]
}
