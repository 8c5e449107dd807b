//! The modules of torch that whole models are pickled as, and the optimizers of checkpoints.
//!
//! Sources: torch's `nn/modules/module.py` (`Module.__setstate__`) and `optim/optimizer.py`
//! (`Optimizer.__setstate__`), which take a state as it is; what the forward pass calls is named
//! in the file as well.

use super::allowed::{PLAIN, Row};

/// Sorted by module.
pub(super) const MODULES: &[Row] = &[
    (
        "torch.nn.modules.activation",
        PLAIN,
        "ReLU ReLU6 LeakyReLU PReLU SiLU GELU ELU SELU CELU GLU Sigmoid LogSigmoid Tanh \
         Softmax LogSoftmax Softplus Softsign Hardswish Hardsigmoid Hardtanh Mish \
         MultiheadAttention Tanhshrink Threshold",
    ),
    (
        "torch.nn.modules.batchnorm",
        PLAIN,
        "BatchNorm1d BatchNorm2d BatchNorm3d SyncBatchNorm",
    ),
    (
        "torch.nn.modules.container",
        PLAIN,
        "ParameterDict ParameterList Sequential ModuleList ModuleDict",
    ),
    (
        "torch.nn.modules.conv",
        PLAIN,
        "Conv1d Conv2d Conv3d ConvTranspose1d ConvTranspose2d ConvTranspose3d",
    ),
    (
        "torch.nn.modules.distance",
        PLAIN,
        "CosineSimilarity PairwiseDistance",
    ),
    (
        "torch.nn.modules.dropout",
        PLAIN,
        "Dropout Dropout1d Dropout2d Dropout3d AlphaDropout",
    ),
    ("torch.nn.modules.flatten", PLAIN, "Flatten Unflatten"),
    ("torch.nn.modules.fold", PLAIN, "Fold Unfold"),
    (
        "torch.nn.modules.instancenorm",
        PLAIN,
        "InstanceNorm1d InstanceNorm2d InstanceNorm3d",
    ),
    (
        "torch.nn.modules.linear",
        PLAIN,
        "Linear Identity Bilinear NonDynamicallyQuantizableLinear",
    ),
    (
        "torch.nn.modules.loss",
        PLAIN,
        "CrossEntropyLoss MSELoss L1Loss SmoothL1Loss HuberLoss NLLLoss BCELoss \
         BCEWithLogitsLoss KLDivLoss TripletMarginLoss CosineEmbeddingLoss",
    ),
    (
        "torch.nn.modules.normalization",
        PLAIN,
        "LayerNorm GroupNorm LocalResponseNorm RMSNorm",
    ),
    (
        "torch.nn.modules.padding",
        PLAIN,
        "ConstantPad1d ConstantPad2d ReflectionPad1d ReflectionPad2d ReplicationPad1d \
         ReplicationPad2d ReplicationPad3d ZeroPad1d ZeroPad2d",
    ),
    (
        "torch.nn.modules.pixelshuffle",
        PLAIN,
        "PixelShuffle PixelUnshuffle",
    ),
    (
        "torch.nn.modules.pooling",
        PLAIN,
        "MaxPool1d MaxPool2d MaxPool3d AvgPool1d AvgPool2d AvgPool3d AdaptiveAvgPool1d \
         AdaptiveAvgPool2d AdaptiveAvgPool3d AdaptiveMaxPool1d AdaptiveMaxPool2d",
    ),
    (
        "torch.nn.modules.rnn",
        PLAIN,
        "RNN LSTM GRU RNNCell LSTMCell GRUCell",
    ),
    ("torch.nn.modules.sparse", PLAIN, "Embedding EmbeddingBag"),
    (
        "torch.nn.modules.transformer",
        PLAIN,
        "Transformer TransformerEncoder TransformerEncoderLayer TransformerDecoder \
         TransformerDecoderLayer",
    ),
    (
        "torch.nn.modules.upsampling",
        PLAIN,
        "Upsample UpsamplingNearest2d UpsamplingBilinear2d",
    ),
    ("torch.optim.adagrad", PLAIN, "Adagrad"),
    ("torch.optim.adam", PLAIN, "Adam"),
    ("torch.optim.adamw", PLAIN, "AdamW"),
    (
        "torch.optim.lr_scheduler",
        PLAIN,
        "StepLR MultiStepLR ExponentialLR CosineAnnealingLR CosineAnnealingWarmRestarts \
         ReduceLROnPlateau LinearLR ConstantLR OneCycleLR CyclicLR PolynomialLR",
    ),
    ("torch.optim.rmsprop", PLAIN, "RMSprop"),
    ("torch.optim.sgd", PLAIN, "SGD"),
];
