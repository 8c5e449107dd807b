//! The classes of scikit-learn that its models are made of: a state of numbers, names and other
//! estimators, and no code of the file's.
//!
//! Source: scikit-learn 1.9's `BaseEstimator.__setstate__` (`base.py`), which takes a state as it
//! is, constructors that keep what they are given, and the `__reduce__` of its Cython classes.

use super::allowed::{DICT, PLAIN, Row};

/// Sorted by module.
pub(super) const SKLEARN: &[Row] = &[
    ("sklearn.utils", DICT, "Bunch"),
    ("sklearn.utils._bunch", DICT, "Bunch"),
    (
        "sklearn._loss._loss",
        PLAIN,
        "CyAbsoluteError CyExponentialLoss CyHalfBinomialLoss CyHalfGammaLoss \
         CyHalfMultinomialLoss CyHalfPoissonLoss CyHalfSquaredError CyHuberLoss CyPinballLoss",
    ),
    (
        "sklearn._loss.link",
        PLAIN,
        "HalfLogitLink IdentityLink Interval LogLink LogitLink MultinomialLogit",
    ),
    (
        "sklearn._loss.loss",
        PLAIN,
        "AbsoluteError ExponentialLoss HalfBinomialLoss HalfGammaLoss HalfMultinomialLoss \
         HalfPoissonLoss HalfSquaredError HuberLoss PinballLoss",
    ),
    (
        "sklearn.calibration",
        PLAIN,
        "CalibratedClassifierCV _CalibratedClassifier _SigmoidCalibration",
    ),
    (
        "sklearn.cluster._affinity_propagation",
        PLAIN,
        "AffinityPropagation",
    ),
    (
        "sklearn.cluster._agglomerative",
        PLAIN,
        "AgglomerativeClustering FeatureAgglomeration",
    ),
    (
        "sklearn.cluster._bicluster",
        PLAIN,
        "SpectralBiclustering SpectralCoclustering",
    ),
    ("sklearn.cluster._birch", PLAIN, "Birch"),
    ("sklearn.cluster._bisect_k_means", PLAIN, "BisectingKMeans"),
    ("sklearn.cluster._dbscan", PLAIN, "DBSCAN"),
    ("sklearn.cluster._hdbscan.hdbscan", PLAIN, "HDBSCAN"),
    ("sklearn.cluster._kmeans", PLAIN, "KMeans MiniBatchKMeans"),
    ("sklearn.cluster._mean_shift", PLAIN, "MeanShift"),
    ("sklearn.cluster._optics", PLAIN, "OPTICS"),
    ("sklearn.cluster._spectral", PLAIN, "SpectralClustering"),
    (
        "sklearn.compose._column_transformer",
        PLAIN,
        "ColumnTransformer",
    ),
    (
        "sklearn.compose._target",
        PLAIN,
        "TransformedTargetRegressor",
    ),
    (
        "sklearn.covariance._elliptic_envelope",
        PLAIN,
        "EllipticEnvelope",
    ),
    (
        "sklearn.covariance._empirical_covariance",
        PLAIN,
        "EmpiricalCovariance",
    ),
    (
        "sklearn.covariance._graph_lasso",
        PLAIN,
        "GraphicalLasso GraphicalLassoCV",
    ),
    ("sklearn.covariance._robust_covariance", PLAIN, "MinCovDet"),
    (
        "sklearn.covariance._shrunk_covariance",
        PLAIN,
        "LedoitWolf OAS ShrunkCovariance",
    ),
    (
        "sklearn.cross_decomposition._pls",
        PLAIN,
        "CCA PLSCanonical PLSRegression PLSSVD",
    ),
    (
        "sklearn.decomposition._dict_learning",
        PLAIN,
        "DictionaryLearning MiniBatchDictionaryLearning SparseCoder",
    ),
    (
        "sklearn.decomposition._factor_analysis",
        PLAIN,
        "FactorAnalysis",
    ),
    ("sklearn.decomposition._fastica", PLAIN, "FastICA"),
    (
        "sklearn.decomposition._incremental_pca",
        PLAIN,
        "IncrementalPCA",
    ),
    ("sklearn.decomposition._kernel_pca", PLAIN, "KernelPCA"),
    (
        "sklearn.decomposition._lda",
        PLAIN,
        "LatentDirichletAllocation",
    ),
    ("sklearn.decomposition._nmf", PLAIN, "MiniBatchNMF NMF"),
    ("sklearn.decomposition._pca", PLAIN, "PCA"),
    (
        "sklearn.decomposition._sparse_pca",
        PLAIN,
        "MiniBatchSparsePCA SparsePCA",
    ),
    (
        "sklearn.decomposition._truncated_svd",
        PLAIN,
        "TruncatedSVD",
    ),
    (
        "sklearn.discriminant_analysis",
        PLAIN,
        "LinearDiscriminantAnalysis QuadraticDiscriminantAnalysis",
    ),
    ("sklearn.dummy", PLAIN, "DummyClassifier DummyRegressor"),
    (
        "sklearn.ensemble._bagging",
        PLAIN,
        "BaggingClassifier BaggingRegressor",
    ),
    (
        "sklearn.ensemble._forest",
        PLAIN,
        "ExtraTreesClassifier ExtraTreesRegressor RandomForestClassifier \
         RandomForestRegressor RandomTreesEmbedding",
    ),
    (
        "sklearn.ensemble._gb",
        PLAIN,
        "GradientBoostingClassifier GradientBoostingRegressor",
    ),
    (
        "sklearn.ensemble._hist_gradient_boosting.binning",
        PLAIN,
        "_BinMapper",
    ),
    (
        "sklearn.ensemble._hist_gradient_boosting.gradient_boosting",
        PLAIN,
        "HistGradientBoostingClassifier HistGradientBoostingRegressor",
    ),
    (
        "sklearn.ensemble._hist_gradient_boosting.predictor",
        PLAIN,
        "TreePredictor",
    ),
    ("sklearn.ensemble._iforest", PLAIN, "IsolationForest"),
    (
        "sklearn.ensemble._stacking",
        PLAIN,
        "StackingClassifier StackingRegressor",
    ),
    (
        "sklearn.ensemble._voting",
        PLAIN,
        "VotingClassifier VotingRegressor",
    ),
    (
        "sklearn.ensemble._weight_boosting",
        PLAIN,
        "AdaBoostClassifier AdaBoostRegressor",
    ),
    (
        "sklearn.feature_extraction._dict_vectorizer",
        PLAIN,
        "DictVectorizer",
    ),
    ("sklearn.feature_extraction._hash", PLAIN, "FeatureHasher"),
    ("sklearn.feature_extraction.image", PLAIN, "PatchExtractor"),
    (
        "sklearn.feature_extraction.text",
        PLAIN,
        "CountVectorizer HashingVectorizer TfidfTransformer TfidfVectorizer",
    ),
    (
        "sklearn.feature_selection._from_model",
        PLAIN,
        "SelectFromModel",
    ),
    ("sklearn.feature_selection._rfe", PLAIN, "RFE RFECV"),
    (
        "sklearn.feature_selection._sequential",
        PLAIN,
        "SequentialFeatureSelector",
    ),
    (
        "sklearn.feature_selection._univariate_selection",
        PLAIN,
        "GenericUnivariateSelect SelectFdr SelectFpr SelectFwe SelectKBest SelectPercentile",
    ),
    (
        "sklearn.feature_selection._variance_threshold",
        PLAIN,
        "VarianceThreshold",
    ),
    ("sklearn.frozen._frozen", PLAIN, "FrozenEstimator"),
    (
        "sklearn.gaussian_process._gpc",
        PLAIN,
        "GaussianProcessClassifier _BinaryGaussianProcessClassifierLaplace",
    ),
    (
        "sklearn.gaussian_process._gpr",
        PLAIN,
        "GaussianProcessRegressor",
    ),
    (
        "sklearn.gaussian_process.kernels",
        PLAIN,
        "CompoundKernel ConstantKernel DotProduct ExpSineSquared Exponentiation \
         Hyperparameter Matern Product RBF RationalQuadratic Sum WhiteKernel",
    ),
    (
        "sklearn.impute._base",
        PLAIN,
        "MissingIndicator SimpleImputer",
    ),
    ("sklearn.impute._knn", PLAIN, "KNNImputer"),
    ("sklearn.isotonic", PLAIN, "IsotonicRegression"),
    (
        "sklearn.kernel_approximation",
        PLAIN,
        "AdditiveChi2Sampler Nystroem PolynomialCountSketch RBFSampler SkewedChi2Sampler",
    ),
    ("sklearn.kernel_ridge", PLAIN, "KernelRidge"),
    ("sklearn.linear_model._base", PLAIN, "LinearRegression"),
    (
        "sklearn.linear_model._bayes",
        PLAIN,
        "ARDRegression BayesianRidge",
    ),
    (
        "sklearn.linear_model._coordinate_descent",
        PLAIN,
        "ElasticNet ElasticNetCV Lasso LassoCV MultiTaskElasticNet MultiTaskElasticNetCV \
         MultiTaskLasso MultiTaskLassoCV",
    ),
    (
        "sklearn.linear_model._glm.glm",
        PLAIN,
        "GammaRegressor PoissonRegressor TweedieRegressor",
    ),
    ("sklearn.linear_model._huber", PLAIN, "HuberRegressor"),
    (
        "sklearn.linear_model._least_angle",
        PLAIN,
        "Lars LarsCV LassoLars LassoLarsCV LassoLarsIC",
    ),
    (
        "sklearn.linear_model._logistic",
        PLAIN,
        "LogisticRegression LogisticRegressionCV",
    ),
    (
        "sklearn.linear_model._omp",
        PLAIN,
        "OrthogonalMatchingPursuit OrthogonalMatchingPursuitCV",
    ),
    (
        "sklearn.linear_model._passive_aggressive",
        PLAIN,
        "PassiveAggressiveClassifier PassiveAggressiveRegressor",
    ),
    ("sklearn.linear_model._perceptron", PLAIN, "Perceptron"),
    ("sklearn.linear_model._quantile", PLAIN, "QuantileRegressor"),
    ("sklearn.linear_model._ransac", PLAIN, "RANSACRegressor"),
    (
        "sklearn.linear_model._ridge",
        PLAIN,
        "Ridge RidgeCV RidgeClassifier RidgeClassifierCV",
    ),
    (
        "sklearn.linear_model._sgd_fast",
        PLAIN,
        "EpsilonInsensitive Hinge Huber Log ModifiedHuber SquaredEpsilonInsensitive \
         SquaredHinge SquaredLoss",
    ),
    (
        "sklearn.linear_model._stochastic_gradient",
        PLAIN,
        "SGDClassifier SGDOneClassSVM SGDRegressor",
    ),
    (
        "sklearn.linear_model._theil_sen",
        PLAIN,
        "TheilSenRegressor",
    ),
    ("sklearn.manifold._classical_mds", PLAIN, "ClassicalMDS"),
    ("sklearn.manifold._isomap", PLAIN, "Isomap"),
    (
        "sklearn.manifold._locally_linear",
        PLAIN,
        "LocallyLinearEmbedding",
    ),
    ("sklearn.manifold._mds", PLAIN, "MDS"),
    (
        "sklearn.manifold._spectral_embedding",
        PLAIN,
        "SpectralEmbedding",
    ),
    ("sklearn.manifold._t_sne", PLAIN, "TSNE"),
    (
        "sklearn.metrics._dist_metrics",
        PLAIN,
        "ChebyshevDistance ChebyshevDistance64 EuclideanDistance EuclideanDistance32 \
         EuclideanDistance64 ManhattanDistance ManhattanDistance64 MinkowskiDistance \
         MinkowskiDistance64 newObj",
    ),
    (
        "sklearn.metrics._scorer",
        PLAIN,
        "_PassthroughScorer _Scorer",
    ),
    (
        "sklearn.mixture._bayesian_mixture",
        PLAIN,
        "BayesianGaussianMixture",
    ),
    (
        "sklearn.mixture._gaussian_mixture",
        PLAIN,
        "GaussianMixture",
    ),
    (
        "sklearn.model_selection._classification_threshold",
        PLAIN,
        "FixedThresholdClassifier TunedThresholdClassifierCV",
    ),
    (
        "sklearn.model_selection._search",
        PLAIN,
        "GridSearchCV RandomizedSearchCV",
    ),
    (
        "sklearn.model_selection._split",
        PLAIN,
        "GroupKFold KFold LeaveOneOut PredefinedSplit RepeatedKFold RepeatedStratifiedKFold \
         ShuffleSplit StratifiedGroupKFold StratifiedKFold StratifiedShuffleSplit \
         TimeSeriesSplit",
    ),
    (
        "sklearn.multiclass",
        PLAIN,
        "OneVsOneClassifier OneVsRestClassifier OutputCodeClassifier",
    ),
    (
        "sklearn.multioutput",
        PLAIN,
        "ClassifierChain MultiOutputClassifier MultiOutputRegressor RegressorChain",
    ),
    (
        "sklearn.naive_bayes",
        PLAIN,
        "BernoulliNB CategoricalNB ComplementNB GaussianNB MultinomialNB",
    ),
    (
        "sklearn.neighbors._ball_tree",
        PLAIN,
        "BallTree BallTree32 BallTree64 newObj",
    ),
    (
        "sklearn.neighbors._classification",
        PLAIN,
        "KNeighborsClassifier RadiusNeighborsClassifier",
    ),
    (
        "sklearn.neighbors._graph",
        PLAIN,
        "KNeighborsTransformer RadiusNeighborsTransformer",
    ),
    (
        "sklearn.neighbors._kd_tree",
        PLAIN,
        "KDTree KDTree32 KDTree64 newObj",
    ),
    ("sklearn.neighbors._kde", PLAIN, "KernelDensity"),
    ("sklearn.neighbors._lof", PLAIN, "LocalOutlierFactor"),
    (
        "sklearn.neighbors._nca",
        PLAIN,
        "NeighborhoodComponentsAnalysis",
    ),
    (
        "sklearn.neighbors._nearest_centroid",
        PLAIN,
        "NearestCentroid",
    ),
    (
        "sklearn.neighbors._regression",
        PLAIN,
        "KNeighborsRegressor RadiusNeighborsRegressor",
    ),
    ("sklearn.neighbors._unsupervised", PLAIN, "NearestNeighbors"),
    (
        "sklearn.neural_network._multilayer_perceptron",
        PLAIN,
        "MLPClassifier MLPRegressor",
    ),
    ("sklearn.neural_network._rbm", PLAIN, "BernoulliRBM"),
    (
        "sklearn.neural_network._stochastic_optimizers",
        PLAIN,
        "AdamOptimizer SGDOptimizer",
    ),
    ("sklearn.pipeline", PLAIN, "FeatureUnion Pipeline"),
    (
        "sklearn.preprocessing._data",
        PLAIN,
        "Binarizer KernelCenterer MaxAbsScaler MinMaxScaler Normalizer PowerTransformer \
         QuantileTransformer RobustScaler StandardScaler",
    ),
    (
        "sklearn.preprocessing._discretization",
        PLAIN,
        "KBinsDiscretizer",
    ),
    (
        "sklearn.preprocessing._encoders",
        PLAIN,
        "OneHotEncoder OrdinalEncoder",
    ),
    (
        "sklearn.preprocessing._function_transformer",
        PLAIN,
        "FunctionTransformer",
    ),
    (
        "sklearn.preprocessing._label",
        PLAIN,
        "LabelBinarizer LabelEncoder MultiLabelBinarizer",
    ),
    (
        "sklearn.preprocessing._polynomial",
        PLAIN,
        "PolynomialFeatures SplineTransformer",
    ),
    (
        "sklearn.preprocessing._target_encoder",
        PLAIN,
        "TargetEncoder",
    ),
    (
        "sklearn.random_projection",
        PLAIN,
        "GaussianRandomProjection SparseRandomProjection",
    ),
    (
        "sklearn.semi_supervised._label_propagation",
        PLAIN,
        "LabelPropagation LabelSpreading",
    ),
    (
        "sklearn.semi_supervised._self_training",
        PLAIN,
        "SelfTrainingClassifier",
    ),
    (
        "sklearn.svm._classes",
        PLAIN,
        "LinearSVC LinearSVR NuSVC NuSVR OneClassSVM SVC SVR",
    ),
    (
        "sklearn.tree._classes",
        PLAIN,
        "DecisionTreeClassifier DecisionTreeRegressor ExtraTreeClassifier ExtraTreeRegressor",
    ),
    ("sklearn.tree._tree", PLAIN, "Tree"),
];
