"""The messages of the protocol. Written from inference.proto by tools/write_grpc.py."""

from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper
from google.protobuf.message_factory import GetMessageClass

# A pool of their own: a client of the same protocol in this process has messages of the same names.
_POOL = DescriptorPool()
DESCRIPTOR = _POOL.AddSerializedFile(
    b'\n\x0finference.proto\x12\tinference"\x13\n\x11ServerLiveRequest"(\n\x12ServerLiveResponse\x12\x12\n\x04live\x18\x01 \x01(\x08R\x04live"\x14\n\x12S'
    b'erverReadyRequest"+\n\x13ServerReadyResponse\x12\x14\n\x05ready\x18\x01 \x01(\x08R\x05ready"A\n\x11ModelReadyRequest\x12\x12\n\x04name\x18\x01 \x01('
    b'\tR\x04name\x12\x18\n\x07version\x18\x02 \x01(\tR\x07version"*\n\x12ModelReadyResponse\x12\x14\n\x05ready\x18\x01 \x01(\x08R\x05ready"\x17\n\x15ServerMetadataR'
    b'equest"f\n\x16ServerMetadataResponse\x12\x12\n\x04name\x18\x01 \x01(\tR\x04name\x12\x18\n\x07version\x18\x02 \x01(\tR\x07version\x12\x1e\n\nextensions\x18\x03 \x03'
    b'(\tR\nextensions"D\n\x14ModelMetadataRequest\x12\x12\n\x04name\x18\x01 \x01(\tR\x04name\x12\x18\n\x07version\x18\x02 \x01(\tR\x07version"\xcf\x02\n\x15ModelMe'
    b'tadataResponse\x12\x12\n\x04name\x18\x01 \x01(\tR\x04name\x12\x1a\n\x08versions\x18\x02 \x03(\tR\x08versions\x12\x1a\n\x08platform\x18\x03 \x01(\tR\x08platform\x12G\n\x06in'
    b'puts\x18\x04 \x03(\x0b2/.inference.ModelMetadataResponse.TensorMetadataR\x06inputs\x12I\n\x07outputs\x18\x05 \x03(\x0b2/.inference'
    b'.ModelMetadataResponse.TensorMetadataR\x07outputs\x1aV\n\x0eTensorMetadata\x12\x12\n\x04name\x18\x01 \x01(\tR\x04name\x12\x1a\n\x08datatype'
    b'\x18\x02 \x01(\tR\x08datatype\x12\x14\n\x05shape\x18\x03 \x03(\x03R\x05shape"\xd7\x01\n\x0eInferParameter\x12\x1f\n\nbool_param\x18\x01 \x01(\x08H\x00R\tboolParam\x12!\n\x0bin'
    b't64_param\x18\x02 \x01(\x03H\x00R\nint64Param\x12#\n\x0cstring_param\x18\x03 \x01(\tH\x00R\x0bstringParam\x12#\n\x0cdouble_param\x18\x04 \x01(\x01H\x00R\x0bdoub'
    b'leParam\x12#\n\x0cuint64_param\x18\x05 \x01(\x04H\x00R\x0buint64ParamB\x12\n\x10parameter_choice"\xc3\x02\n\x13InferTensorContents\x12#\n\rbool'
    b'_contents\x18\x01 \x03(\x08R\x0cboolContents\x12!\n\x0cint_contents\x18\x02 \x03(\x05R\x0bintContents\x12%\n\x0eint64_contents\x18\x03 \x03(\x03R\rint64C'
    b"ontents\x12#\n\ruint_contents\x18\x04 \x03(\rR\x0cuintContents\x12'\n\x0fuint64_contents\x18\x05 \x03(\x04R\x0euint64Contents\x12#\n\rfp32_co"
    b'ntents\x18\x06 \x03(\x02R\x0cfp32Contents\x12#\n\rfp64_contents\x18\x07 \x03(\x01R\x0cfp64Contents\x12%\n\x0ebytes_contents\x18\x08 \x03(\x0cR\rbytesCo'
    b'ntents"\x9d\x08\n\x11ModelInferRequest\x12\x1d\n\nmodel_name\x18\x01 \x01(\tR\tmodelName\x12#\n\rmodel_version\x18\x02 \x01(\tR\x0cmodelVersion'
    b'\x12\x0e\n\x02id\x18\x03 \x01(\tR\x02id\x12L\n\nparameters\x18\x04 \x03(\x0b2,.inference.ModelInferRequest.ParametersEntryR\nparameters\x12E'
    b'\n\x06inputs\x18\x05 \x03(\x0b2-.inference.ModelInferRequest.InferInputTensorR\x06inputs\x12Q\n\x07outputs\x18\x06 \x03(\x0b27.inferen'
    b'ce.ModelInferRequest.InferRequestedOutputTensorR\x07outputs\x12,\n\x12raw_input_contents\x18\x07 \x03(\x0cR\x10rawInputCo'
    b'ntents\x1a\xcd\x02\n\x10InferInputTensor\x12\x12\n\x04name\x18\x01 \x01(\tR\x04name\x12\x1a\n\x08datatype\x18\x02 \x01(\tR\x08datatype\x12\x14\n\x05shape\x18\x03 \x03(\x03R\x05shap'
    b'e\x12]\n\nparameters\x18\x04 \x03(\x0b2=.inference.ModelInferRequest.InferInputTensor.ParametersEntryR\nparameters'
    b'\x12:\n\x08contents\x18\x05 \x01(\x0b2\x1e.inference.InferTensorContentsR\x08contents\x1aX\n\x0fParametersEntry\x12\x10\n\x03key\x18\x01 \x01(\tR\x03ke'
    b'y\x12/\n\x05value\x18\x02 \x01(\x0b2\x19.inference.InferParameterR\x05value:\x028\x01\x1a\xf3\x01\n\x1aInferRequestedOutputTensor\x12\x12\n\x04name\x18\x01 '
    b'\x01(\tR\x04name\x12g\n\nparameters\x18\x02 \x03(\x0b2G.inference.ModelInferRequest.InferRequestedOutputTensor.Parameter'
    b'sEntryR\nparameters\x1aX\n\x0fParametersEntry\x12\x10\n\x03key\x18\x01 \x01(\tR\x03key\x12/\n\x05value\x18\x02 \x01(\x0b2\x19.inference.InferParamete'
    b'rR\x05value:\x028\x01\x1aX\n\x0fParametersEntry\x12\x10\n\x03key\x18\x01 \x01(\tR\x03key\x12/\n\x05value\x18\x02 \x01(\x0b2\x19.inference.InferParameterR\x05val'
    b'ue:\x028\x01"\xdf\x05\n\x12ModelInferResponse\x12\x1d\n\nmodel_name\x18\x01 \x01(\tR\tmodelName\x12#\n\rmodel_version\x18\x02 \x01(\tR\x0cmodelVersio'
    b'n\x12\x0e\n\x02id\x18\x03 \x01(\tR\x02id\x12M\n\nparameters\x18\x04 \x03(\x0b2-.inference.ModelInferResponse.ParametersEntryR\nparameters'
    b'\x12I\n\x07outputs\x18\x05 \x03(\x0b2/.inference.ModelInferResponse.InferOutputTensorR\x07outputs\x12.\n\x13raw_output_conten'
    b'ts\x18\x06 \x03(\x0cR\x11rawOutputContents\x1a\xd0\x02\n\x11InferOutputTensor\x12\x12\n\x04name\x18\x01 \x01(\tR\x04name\x12\x1a\n\x08datatype\x18\x02 \x01(\tR\x08datatyp'
    b'e\x12\x14\n\x05shape\x18\x03 \x03(\x03R\x05shape\x12_\n\nparameters\x18\x04 \x03(\x0b2?.inference.ModelInferResponse.InferOutputTensor.Par'
    b'ametersEntryR\nparameters\x12:\n\x08contents\x18\x05 \x01(\x0b2\x1e.inference.InferTensorContentsR\x08contents\x1aX\n\x0fParamete'
    b'rsEntry\x12\x10\n\x03key\x18\x01 \x01(\tR\x03key\x12/\n\x05value\x18\x02 \x01(\x0b2\x19.inference.InferParameterR\x05value:\x028\x01\x1aX\n\x0fParametersEntr'
    b'y\x12\x10\n\x03key\x18\x01 \x01(\tR\x03key\x12/\n\x05value\x18\x02 \x01(\x0b2\x19.inference.InferParameterR\x05value:\x028\x01"\x85\x01\n\x18ModelStreamInferRes'
    b'ponse\x12#\n\rerror_message\x18\x01 \x01(\tR\x0cerrorMessage\x12D\n\x0einfer_response\x18\x02 \x01(\x0b2\x1d.inference.ModelInferRespons'
    b'eR\rinferResponse"\xcd\x01\n\x12ModelInstanceGroup\x12\x12\n\x04name\x18\x01 \x01(\tR\x04name\x12\x14\n\x05count\x18\x02 \x01(\x05R\x05count\x12\x12\n\x04gpus\x18\x03 \x03(\x05R'
    b'\x04gpus\x126\n\x04kind\x18\x04 \x01(\x0e2".inference.ModelInstanceGroup.KindR\x04kind"A\n\x04Kind\x12\r\n\tKIND_AUTO\x10\x00\x12\x0c\n\x08KIND_GPU'
    b'\x10\x01\x12\x0c\n\x08KIND_CPU\x10\x02\x12\x0e\n\nKIND_MODEL\x10\x03"\xcb\x02\n\nModelInput\x12\x12\n\x04name\x18\x01 \x01(\tR\x04name\x120\n\tdata_type\x18\x02 \x01(\x0e2\x13.inferen'
    b'ce.DataTypeR\x08dataType\x124\n\x06format\x18\x03 \x01(\x0e2\x1c.inference.ModelInput.FormatR\x06format\x12\x12\n\x04dims\x18\x04 \x03(\x03R\x04dims\x12'
    b'&\n\x0fis_shape_tensor\x18\x06 \x01(\x08R\risShapeTensor\x12,\n\x12allow_ragged_batch\x18\x07 \x01(\x08R\x10allowRaggedBatch\x12\x1a\n\x08optiona'
    b'l\x18\x08 \x01(\x08R\x08optional";\n\x06Format\x12\x0f\n\x0bFORMAT_NONE\x10\x00\x12\x0f\n\x0bFORMAT_NHWC\x10\x01\x12\x0f\n\x0bFORMAT_NCHW\x10\x02"\xb6\x01\n\x0bModelOutput\x12\x12'
    b'\n\x04name\x18\x01 \x01(\tR\x04name\x120\n\tdata_type\x18\x02 \x01(\x0e2\x13.inference.DataTypeR\x08dataType\x12\x12\n\x04dims\x18\x03 \x03(\x03R\x04dims\x12%\n\x0elabe'
    b'l_filename\x18\x04 \x01(\tR\rlabelFilename\x12&\n\x0fis_shape_tensor\x18\x06 \x01(\x08R\risShapeTensor"\xbe\x02\n\x12ModelVersionPolicy\x12>'
    b'\n\x06latest\x18\x01 \x01(\x0b2$.inference.ModelVersionPolicy.LatestH\x00R\x06latest\x125\n\x03all\x18\x02 \x01(\x0b2!.inference.ModelVer'
    b'sionPolicy.AllH\x00R\x03all\x12D\n\x08specific\x18\x03 \x01(\x0b2&.inference.ModelVersionPolicy.SpecificH\x00R\x08specific\x1a+\n\x06L'
    b'atest\x12!\n\x0cnum_versions\x18\x01 \x01(\rR\x0bnumVersions\x1a\x05\n\x03All\x1a&\n\x08Specific\x12\x1a\n\x08versions\x18\x01 \x03(\x03R\x08versionsB\x0f\n\rpolic'
    b'y_choice"\xaa\x02\n\x10ModelQueuePolicy\x12P\n\x0etimeout_action\x18\x01 \x01(\x0e2).inference.ModelQueuePolicy.TimeoutAction'
    b'R\rtimeoutAction\x12@\n\x1cdefault_timeout_microseconds\x18\x02 \x01(\x04R\x1adefaultTimeoutMicroseconds\x124\n\x16allow_timeo'
    b'ut_override\x18\x03 \x01(\x08R\x14allowTimeoutOverride\x12$\n\x0emax_queue_size\x18\x04 \x01(\rR\x0cmaxQueueSize"&\n\rTimeoutAction\x12\n'
    b'\n\x06REJECT\x10\x00\x12\t\n\x05DELAY\x10\x01"\xe4\x02\n\x14ModelDynamicBatching\x120\n\x14preferred_batch_size\x18\x01 \x03(\x05R\x12preferredBatchSize'
    b'\x12?\n\x1cmax_queue_delay_microseconds\x18\x02 \x01(\x04R\x19maxQueueDelayMicroseconds\x12+\n\x11preserve_ordering\x18\x03 \x01(\x08R\x10pr'
    b"eserveOrdering\x12'\n\x0fpriority_levels\x18\x04 \x01(\x04R\x0epriorityLevels\x124\n\x16default_priority_level\x18\x05 \x01(\x04R\x14default"
    b'PriorityLevel\x12M\n\x14default_queue_policy\x18\x06 \x01(\x0b2\x1b.inference.ModelQueuePolicyR\x12defaultQueuePolicy"\xa9\x03\n'
    b'\x0fModelEnsembling\x123\n\x04step\x18\x01 \x03(\x0b2\x1f.inference.ModelEnsembling.StepR\x04step\x1a\xe0\x02\n\x04Step\x12\x1d\n\nmodel_name\x18\x01 \x01'
    b'(\tR\tmodelName\x12#\n\rmodel_version\x18\x02 \x01(\x03R\x0cmodelVersion\x12J\n\tinput_map\x18\x03 \x03(\x0b2-.inference.ModelEnsemblin'
    b'g.Step.InputMapEntryR\x08inputMap\x12M\n\noutput_map\x18\x04 \x03(\x0b2..inference.ModelEnsembling.Step.OutputMapEnt'
    b'ryR\toutputMap\x1a;\n\rInputMapEntry\x12\x10\n\x03key\x18\x01 \x01(\tR\x03key\x12\x14\n\x05value\x18\x02 \x01(\tR\x05value:\x028\x01\x1a<\n\x0eOutputMapEntry\x12\x10\n\x03'
    b'key\x18\x01 \x01(\tR\x03key\x12\x14\n\x05value\x18\x02 \x01(\tR\x05value:\x028\x01"3\n\x0eModelParameter\x12!\n\x0cstring_value\x18\x01 \x01(\tR\x0bstringValue"6\n'
    b'\x16ModelTransactionPolicy\x12\x1c\n\tdecoupled\x18\x01 \x01(\x08R\tdecoupled",\n\x12ModelResponseCache\x12\x16\n\x06enable\x18\x01 \x01(\x08R\x06ena'
    b'ble"\x93\x07\n\x0bModelConfig\x12\x12\n\x04name\x18\x01 \x01(\tR\x04name\x12\x1a\n\x08platform\x18\x02 \x01(\tR\x08platform\x12D\n\x0eversion_policy\x18\x03 \x01(\x0b2\x1d.in'
    b'ference.ModelVersionPolicyR\rversionPolicy\x12$\n\x0emax_batch_size\x18\x04 \x01(\x05R\x0cmaxBatchSize\x12+\n\x05input\x18\x05 \x03(\x0b2\x15'
    b'.inference.ModelInputR\x05input\x12.\n\x06output\x18\x06 \x03(\x0b2\x16.inference.ModelOutputR\x06output\x12D\n\x0einstance_group\x18\x07'
    b' \x03(\x0b2\x1d.inference.ModelInstanceGroupR\rinstanceGroup\x124\n\x16default_model_filename\x18\x08 \x01(\tR\x14defaultModel'
    b'Filename\x12L\n\x10dynamic_batching\x18\x0b \x01(\x0b2\x1f.inference.ModelDynamicBatchingH\x00R\x0fdynamicBatching\x12M\n\x13ensemb'
    b'le_scheduling\x18\x0f \x01(\x0b2\x1a.inference.ModelEnsemblingH\x00R\x12ensembleScheduling\x12F\n\nparameters\x18\x0e \x03(\x0b2&.infe'
    b'rence.ModelConfig.ParametersEntryR\nparameters\x12\x18\n\x07backend\x18\x11 \x01(\tR\x07backend\x12[\n\x18model_transaction_pol'
    b'icy\x18\x13 \x01(\x0b2!.inference.ModelTransactionPolicyR\x16modelTransactionPolicy\x12D\n\x0eresponse_cache\x18\x18 \x01(\x0b2\x1d.i'
    b'nference.ModelResponseCacheR\rresponseCache\x1aX\n\x0fParametersEntry\x12\x10\n\x03key\x18\x01 \x01(\tR\x03key\x12/\n\x05value\x18\x02 \x01(\x0b2\x19'
    b'.inference.ModelParameterR\x05value:\x028\x01B\x13\n\x11scheduling_choice"B\n\x12ModelConfigRequest\x12\x12\n\x04name\x18\x01 \x01(\tR\x04n'
    b'ame\x12\x18\n\x07version\x18\x02 \x01(\tR\x07version"E\n\x13ModelConfigResponse\x12.\n\x06config\x18\x01 \x01(\x0b2\x16.inference.ModelConfigR\x06co'
    b'nfig"F\n\x16ModelStatisticsRequest\x12\x12\n\x04name\x18\x01 \x01(\tR\x04name\x12\x18\n\x07version\x18\x02 \x01(\tR\x07version"9\n\x11StatisticDuratio'
    b'n\x12\x14\n\x05count\x18\x01 \x01(\x04R\x05count\x12\x0e\n\x02ns\x18\x02 \x01(\x04R\x02ns"\xf2\x03\n\x0fInferStatistics\x126\n\x07success\x18\x01 \x01(\x0b2\x1c.inference.Statist'
    b'icDurationR\x07success\x120\n\x04fail\x18\x02 \x01(\x0b2\x1c.inference.StatisticDurationR\x04fail\x122\n\x05queue\x18\x03 \x01(\x0b2\x1c.inference'
    b'.StatisticDurationR\x05queue\x12A\n\rcompute_input\x18\x04 \x01(\x0b2\x1c.inference.StatisticDurationR\x0ccomputeInput\x12A\n\r'
    b'compute_infer\x18\x05 \x01(\x0b2\x1c.inference.StatisticDurationR\x0ccomputeInfer\x12C\n\x0ecompute_output\x18\x06 \x01(\x0b2\x1c.infere'
    b'nce.StatisticDurationR\rcomputeOutput\x129\n\tcache_hit\x18\x07 \x01(\x0b2\x1c.inference.StatisticDurationR\x08cacheHit\x12'
    b';\n\ncache_miss\x18\x08 \x01(\x0b2\x1c.inference.StatisticDurationR\tcacheMiss"\x86\x03\n\x17InferResponseStatistics\x12A\n\rcomp'
    b'ute_infer\x18\x01 \x01(\x0b2\x1c.inference.StatisticDurationR\x0ccomputeInfer\x12C\n\x0ecompute_output\x18\x02 \x01(\x0b2\x1c.inference.'
    b'StatisticDurationR\rcomputeOutput\x126\n\x07success\x18\x03 \x01(\x0b2\x1c.inference.StatisticDurationR\x07success\x120\n\x04fail'
    b'\x18\x04 \x01(\x0b2\x1c.inference.StatisticDurationR\x04fail\x12C\n\x0eempty_response\x18\x05 \x01(\x0b2\x1c.inference.StatisticDuration'
    b'R\remptyResponse\x124\n\x06cancel\x18\x06 \x01(\x0b2\x1c.inference.StatisticDurationR\x06cancel"\x80\x02\n\x14InferBatchStatistics\x12\x1d'
    b'\n\nbatch_size\x18\x01 \x01(\x04R\tbatchSize\x12A\n\rcompute_input\x18\x02 \x01(\x0b2\x1c.inference.StatisticDurationR\x0ccomputeInput'
    b'\x12A\n\rcompute_infer\x18\x03 \x01(\x0b2\x1c.inference.StatisticDurationR\x0ccomputeInfer\x12C\n\x0ecompute_output\x18\x04 \x01(\x0b2\x1c.in'
    b'ference.StatisticDurationR\rcomputeOutput"N\n\x0bMemoryUsage\x12\x12\n\x04type\x18\x01 \x01(\tR\x04type\x12\x0e\n\x02id\x18\x02 \x01(\x03R\x02id\x12\x1b\n\tb'
    b'yte_size\x18\x03 \x01(\x04R\x08byteSize"\xb6\x04\n\x0fModelStatistics\x12\x12\n\x04name\x18\x01 \x01(\tR\x04name\x12\x18\n\x07version\x18\x02 \x01(\tR\x07version\x12%\n\x0ela'
    b"st_inference\x18\x03 \x01(\x04R\rlastInference\x12'\n\x0finference_count\x18\x04 \x01(\x04R\x0einferenceCount\x12'\n\x0fexecution_count\x18\x05 "
    b'\x01(\x04R\x0eexecutionCount\x12C\n\x0finference_stats\x18\x06 \x01(\x0b2\x1a.inference.InferStatisticsR\x0einferenceStats\x12@\n\x0bbatc'
    b'h_stats\x18\x07 \x03(\x0b2\x1f.inference.InferBatchStatisticsR\nbatchStats\x129\n\x0cmemory_usage\x18\x08 \x03(\x0b2\x16.inference.Mem'
    b'oryUsageR\x0bmemoryUsage\x12T\n\x0eresponse_stats\x18\t \x03(\x0b2-.inference.ModelStatistics.ResponseStatsEntryR\rre'
    b'sponseStats\x1ad\n\x12ResponseStatsEntry\x12\x10\n\x03key\x18\x01 \x01(\tR\x03key\x128\n\x05value\x18\x02 \x01(\x0b2".inference.InferResponseStat'
    b'isticsR\x05value:\x028\x01"V\n\x17ModelStatisticsResponse\x12;\n\x0bmodel_stats\x18\x01 \x03(\x0b2\x1a.inference.ModelStatisticsR\nm'
    b'odelStats"\xba\x01\n\x18ModelRepositoryParameter\x12\x1f\n\nbool_param\x18\x01 \x01(\x08H\x00R\tboolParam\x12!\n\x0bint64_param\x18\x02 \x01(\x03H\x00R\n'
    b'int64Param\x12#\n\x0cstring_param\x18\x03 \x01(\tH\x00R\x0bstringParam\x12!\n\x0bbytes_param\x18\x04 \x01(\x0cH\x00R\nbytesParamB\x12\n\x10parameter_'
    b'choice"W\n\x16RepositoryIndexRequest\x12\'\n\x0frepository_name\x18\x01 \x01(\tR\x0erepositoryName\x12\x14\n\x05ready\x18\x02 \x01(\x08R\x05ready"'
    b'\xca\x01\n\x17RepositoryIndexResponse\x12E\n\x06models\x18\x01 \x03(\x0b2-.inference.RepositoryIndexResponse.ModelIndexR\x06mode'
    b'ls\x1ah\n\nModelIndex\x12\x12\n\x04name\x18\x01 \x01(\tR\x04name\x12\x18\n\x07version\x18\x02 \x01(\tR\x07version\x12\x14\n\x05state\x18\x03 \x01(\tR\x05state\x12\x16\n\x06reason\x18\x04'
    b' \x01(\tR\x06reason"\x9f\x02\n\x1aRepositoryModelLoadRequest\x12\'\n\x0frepository_name\x18\x01 \x01(\tR\x0erepositoryName\x12\x1d\n\nmodel_na'
    b'me\x18\x02 \x01(\tR\tmodelName\x12U\n\nparameters\x18\x03 \x03(\x0b25.inference.RepositoryModelLoadRequest.ParametersEntryR\n'
    b'parameters\x1ab\n\x0fParametersEntry\x12\x10\n\x03key\x18\x01 \x01(\tR\x03key\x129\n\x05value\x18\x02 \x01(\x0b2#.inference.ModelRepositoryParame'
    b'terR\x05value:\x028\x01"\x1d\n\x1bRepositoryModelLoadResponse"\xa3\x02\n\x1cRepositoryModelUnloadRequest\x12\'\n\x0frepository_nam'
    b'e\x18\x01 \x01(\tR\x0erepositoryName\x12\x1d\n\nmodel_name\x18\x02 \x01(\tR\tmodelName\x12W\n\nparameters\x18\x03 \x03(\x0b27.inference.Repositor'
    b'yModelUnloadRequest.ParametersEntryR\nparameters\x1ab\n\x0fParametersEntry\x12\x10\n\x03key\x18\x01 \x01(\tR\x03key\x129\n\x05value\x18\x02 '
    b'\x01(\x0b2#.inference.ModelRepositoryParameterR\x05value:\x028\x01"\x1f\n\x1dRepositoryModelUnloadResponse"5\n\x1fSystemSh'
    b'aredMemoryStatusRequest\x12\x12\n\x04name\x18\x01 \x01(\tR\x04name"\xd7\x02\n SystemSharedMemoryStatusResponse\x12R\n\x07regions\x18\x01 \x03('
    b'\x0b28.inference.SystemSharedMemoryStatusResponse.RegionsEntryR\x07regions\x1ai\n\x0cRegionStatus\x12\x12\n\x04name\x18\x01 \x01'
    b'(\tR\x04name\x12\x10\n\x03key\x18\x02 \x01(\tR\x03key\x12\x16\n\x06offset\x18\x03 \x01(\x04R\x06offset\x12\x1b\n\tbyte_size\x18\x04 \x01(\x04R\x08byteSize\x1at\n\x0cRegionsEntry\x12'
    b'\x10\n\x03key\x18\x01 \x01(\tR\x03key\x12N\n\x05value\x18\x02 \x01(\x0b28.inference.SystemSharedMemoryStatusResponse.RegionStatusR\x05valu'
    b'e:\x028\x01"~\n!SystemSharedMemoryRegisterRequest\x12\x12\n\x04name\x18\x01 \x01(\tR\x04name\x12\x10\n\x03key\x18\x02 \x01(\tR\x03key\x12\x16\n\x06offset\x18\x03 \x01(\x04'
    b'R\x06offset\x12\x1b\n\tbyte_size\x18\x04 \x01(\x04R\x08byteSize"$\n"SystemSharedMemoryRegisterResponse"9\n#SystemSharedMemor'
    b'yUnregisterRequest\x12\x12\n\x04name\x18\x01 \x01(\tR\x04name"&\n$SystemSharedMemoryUnregisterResponse"3\n\x1dCudaSharedMemo'
    b'ryStatusRequest\x12\x12\n\x04name\x18\x01 \x01(\tR\x04name"\xc4\x02\n\x1eCudaSharedMemoryStatusResponse\x12P\n\x07regions\x18\x01 \x03(\x0b26.infere'
    b'nce.CudaSharedMemoryStatusResponse.RegionsEntryR\x07regions\x1a\\\n\x0cRegionStatus\x12\x12\n\x04name\x18\x01 \x01(\tR\x04name\x12\x1b\n\t'
    b'device_id\x18\x02 \x01(\x04R\x08deviceId\x12\x1b\n\tbyte_size\x18\x03 \x01(\x04R\x08byteSize\x1ar\n\x0cRegionsEntry\x12\x10\n\x03key\x18\x01 \x01(\tR\x03key\x12L\n\x05valu'
    b'e\x18\x02 \x01(\x0b26.inference.CudaSharedMemoryStatusResponse.RegionStatusR\x05value:\x028\x01"\x8e\x01\n\x1fCudaSharedMemoryR'
    b'egisterRequest\x12\x12\n\x04name\x18\x01 \x01(\tR\x04name\x12\x1d\n\nraw_handle\x18\x02 \x01(\x0cR\trawHandle\x12\x1b\n\tdevice_id\x18\x03 \x01(\x03R\x08deviceId\x12\x1b'
    b'\n\tbyte_size\x18\x04 \x01(\x04R\x08byteSize""\n CudaSharedMemoryRegisterResponse"7\n!CudaSharedMemoryUnregisterReq'
    b'uest\x12\x12\n\x04name\x18\x01 \x01(\tR\x04name"$\n"CudaSharedMemoryUnregisterResponse"\x8e\x02\n\x13TraceSettingRequest\x12H\n\x08settin'
    b'gs\x18\x01 \x03(\x0b2,.inference.TraceSettingRequest.SettingsEntryR\x08settings\x12\x1d\n\nmodel_name\x18\x02 \x01(\tR\tmodelName\x1a'
    b'$\n\x0cSettingValue\x12\x14\n\x05value\x18\x01 \x03(\tR\x05value\x1ah\n\rSettingsEntry\x12\x10\n\x03key\x18\x01 \x01(\tR\x03key\x12A\n\x05value\x18\x02 \x01(\x0b2+.infere'
    b'nce.TraceSettingRequest.SettingValueR\x05value:\x028\x01"\xf2\x01\n\x14TraceSettingResponse\x12I\n\x08settings\x18\x01 \x03(\x0b2-.inf'
    b'erence.TraceSettingResponse.SettingsEntryR\x08settings\x1a$\n\x0cSettingValue\x12\x14\n\x05value\x18\x01 \x03(\tR\x05value\x1ai\n\rSet'
    b'tingsEntry\x12\x10\n\x03key\x18\x01 \x01(\tR\x03key\x12B\n\x05value\x18\x02 \x01(\x0b2,.inference.TraceSettingResponse.SettingValueR\x05value'
    b':\x028\x01"\xd6\x02\n\x12LogSettingsRequest\x12G\n\x08settings\x18\x01 \x03(\x0b2+.inference.LogSettingsRequest.SettingsEntryR\x08sett'
    b'ings\x1a\x8d\x01\n\x0cSettingValue\x12\x1f\n\nbool_param\x18\x01 \x01(\x08H\x00R\tboolParam\x12#\n\x0cuint32_param\x18\x02 \x01(\rH\x00R\x0buint32Param\x12#\n\x0cs'
    b'tring_param\x18\x03 \x01(\tH\x00R\x0bstringParamB\x12\n\x10parameter_choice\x1ag\n\rSettingsEntry\x12\x10\n\x03key\x18\x01 \x01(\tR\x03key\x12@\n\x05value'
    b'\x18\x02 \x01(\x0b2*.inference.LogSettingsRequest.SettingValueR\x05value:\x028\x01"\xd9\x02\n\x13LogSettingsResponse\x12H\n\x08setting'
    b's\x18\x01 \x03(\x0b2,.inference.LogSettingsResponse.SettingsEntryR\x08settings\x1a\x8d\x01\n\x0cSettingValue\x12\x1f\n\nbool_param\x18\x01'
    b' \x01(\x08H\x00R\tboolParam\x12#\n\x0cuint32_param\x18\x02 \x01(\rH\x00R\x0buint32Param\x12#\n\x0cstring_param\x18\x03 \x01(\tH\x00R\x0bstringParamB\x12\n\x10p'
    b'arameter_choice\x1ah\n\rSettingsEntry\x12\x10\n\x03key\x18\x01 \x01(\tR\x03key\x12A\n\x05value\x18\x02 \x01(\x0b2+.inference.LogSettingsRespons'
    b'e.SettingValueR\x05value:\x028\x01*\xfa\x01\n\x08DataType\x12\x10\n\x0cTYPE_INVALID\x10\x00\x12\r\n\tTYPE_BOOL\x10\x01\x12\x0e\n\nTYPE_UINT8\x10\x02\x12\x0f\n\x0bTYPE_'
    b'UINT16\x10\x03\x12\x0f\n\x0bTYPE_UINT32\x10\x04\x12\x0f\n\x0bTYPE_UINT64\x10\x05\x12\r\n\tTYPE_INT8\x10\x06\x12\x0e\n\nTYPE_INT16\x10\x07\x12\x0e\n\nTYPE_INT32\x10\x08\x12\x0e\n\nTYP'
    b'E_INT64\x10\t\x12\r\n\tTYPE_FP16\x10\n\x12\r\n\tTYPE_FP32\x10\x0b\x12\r\n\tTYPE_FP64\x10\x0c\x12\x0f\n\x0bTYPE_STRING\x10\r\x12\r\n\tTYPE_BF16\x10\x0e2\x8e\x0f\n\x14GRPCI'
    b'nferenceService\x12I\n\nServerLive\x12\x1c.inference.ServerLiveRequest\x1a\x1d.inference.ServerLiveResponse\x12L\n\x0bSe'
    b'rverReady\x12\x1d.inference.ServerReadyRequest\x1a\x1e.inference.ServerReadyResponse\x12I\n\nModelReady\x12\x1c.inferen'
    b'ce.ModelReadyRequest\x1a\x1d.inference.ModelReadyResponse\x12U\n\x0eServerMetadata\x12 .inference.ServerMetadata'
    b'Request\x1a!.inference.ServerMetadataResponse\x12R\n\rModelMetadata\x12\x1f.inference.ModelMetadataRequest\x1a .i'
    b'nference.ModelMetadataResponse\x12L\n\x0bModelConfig\x12\x1d.inference.ModelConfigRequest\x1a\x1e.inference.ModelCo'
    b'nfigResponse\x12X\n\x0fModelStatistics\x12!.inference.ModelStatisticsRequest\x1a".inference.ModelStatisticsRe'
    b'sponse\x12I\n\nModelInfer\x12\x1c.inference.ModelInferRequest\x1a\x1d.inference.ModelInferResponse\x12Y\n\x10ModelStream'
    b'Infer\x12\x1c.inference.ModelInferRequest\x1a#.inference.ModelStreamInferResponse(\x010\x01\x12X\n\x0fRepositoryIndex\x12'
    b'!.inference.RepositoryIndexRequest\x1a".inference.RepositoryIndexResponse\x12d\n\x13RepositoryModelLoad\x12%.'
    b'inference.RepositoryModelLoadRequest\x1a&.inference.RepositoryModelLoadResponse\x12j\n\x15RepositoryModelU'
    b"nload\x12'.inference.RepositoryModelUnloadRequest\x1a(.inference.RepositoryModelUnloadResponse\x12s\n\x18Syst"
    b'emSharedMemoryStatus\x12*.inference.SystemSharedMemoryStatusRequest\x1a+.inference.SystemSharedMemoryS'
    b'tatusResponse\x12y\n\x1aSystemSharedMemoryRegister\x12,.inference.SystemSharedMemoryRegisterRequest\x1a-.infe'
    b'rence.SystemSharedMemoryRegisterResponse\x12\x7f\n\x1cSystemSharedMemoryUnregister\x12..inference.SystemShare'
    b'dMemoryUnregisterRequest\x1a/.inference.SystemSharedMemoryUnregisterResponse\x12m\n\x16CudaSharedMemorySta'
    b'tus\x12(.inference.CudaSharedMemoryStatusRequest\x1a).inference.CudaSharedMemoryStatusResponse\x12s\n\x18Cuda'
    b'SharedMemoryRegister\x12*.inference.CudaSharedMemoryRegisterRequest\x1a+.inference.CudaSharedMemoryReg'
    b'isterResponse\x12y\n\x1aCudaSharedMemoryUnregister\x12,.inference.CudaSharedMemoryUnregisterRequest\x1a-.infe'
    b'rence.CudaSharedMemoryUnregisterResponse\x12O\n\x0cTraceSetting\x12\x1e.inference.TraceSettingRequest\x1a\x1f.infer'
    b'ence.TraceSettingResponse\x12L\n\x0bLogSettings\x12\x1d.inference.LogSettingsRequest\x1a\x1e.inference.LogSettingsR'
    b'esponseb\x06proto3'
)
_MESSAGES = DESCRIPTOR.message_types_by_name
_ENUMS = DESCRIPTOR.enum_types_by_name

DataType = EnumTypeWrapper(_ENUMS["DataType"])
TYPE_INVALID = DataType.Value("TYPE_INVALID")
TYPE_BOOL = DataType.Value("TYPE_BOOL")
TYPE_UINT8 = DataType.Value("TYPE_UINT8")
TYPE_UINT16 = DataType.Value("TYPE_UINT16")
TYPE_UINT32 = DataType.Value("TYPE_UINT32")
TYPE_UINT64 = DataType.Value("TYPE_UINT64")
TYPE_INT8 = DataType.Value("TYPE_INT8")
TYPE_INT16 = DataType.Value("TYPE_INT16")
TYPE_INT32 = DataType.Value("TYPE_INT32")
TYPE_INT64 = DataType.Value("TYPE_INT64")
TYPE_FP16 = DataType.Value("TYPE_FP16")
TYPE_FP32 = DataType.Value("TYPE_FP32")
TYPE_FP64 = DataType.Value("TYPE_FP64")
TYPE_STRING = DataType.Value("TYPE_STRING")
TYPE_BF16 = DataType.Value("TYPE_BF16")

ServerLiveRequest = GetMessageClass(_MESSAGES["ServerLiveRequest"])
ServerLiveResponse = GetMessageClass(_MESSAGES["ServerLiveResponse"])
ServerReadyRequest = GetMessageClass(_MESSAGES["ServerReadyRequest"])
ServerReadyResponse = GetMessageClass(_MESSAGES["ServerReadyResponse"])
ModelReadyRequest = GetMessageClass(_MESSAGES["ModelReadyRequest"])
ModelReadyResponse = GetMessageClass(_MESSAGES["ModelReadyResponse"])
ServerMetadataRequest = GetMessageClass(_MESSAGES["ServerMetadataRequest"])
ServerMetadataResponse = GetMessageClass(_MESSAGES["ServerMetadataResponse"])
ModelMetadataRequest = GetMessageClass(_MESSAGES["ModelMetadataRequest"])
ModelMetadataResponse = GetMessageClass(_MESSAGES["ModelMetadataResponse"])
InferParameter = GetMessageClass(_MESSAGES["InferParameter"])
InferTensorContents = GetMessageClass(_MESSAGES["InferTensorContents"])
ModelInferRequest = GetMessageClass(_MESSAGES["ModelInferRequest"])
ModelInferResponse = GetMessageClass(_MESSAGES["ModelInferResponse"])
ModelStreamInferResponse = GetMessageClass(_MESSAGES["ModelStreamInferResponse"])
ModelInstanceGroup = GetMessageClass(_MESSAGES["ModelInstanceGroup"])
ModelInput = GetMessageClass(_MESSAGES["ModelInput"])
ModelOutput = GetMessageClass(_MESSAGES["ModelOutput"])
ModelVersionPolicy = GetMessageClass(_MESSAGES["ModelVersionPolicy"])
ModelQueuePolicy = GetMessageClass(_MESSAGES["ModelQueuePolicy"])
ModelDynamicBatching = GetMessageClass(_MESSAGES["ModelDynamicBatching"])
ModelEnsembling = GetMessageClass(_MESSAGES["ModelEnsembling"])
ModelParameter = GetMessageClass(_MESSAGES["ModelParameter"])
ModelTransactionPolicy = GetMessageClass(_MESSAGES["ModelTransactionPolicy"])
ModelResponseCache = GetMessageClass(_MESSAGES["ModelResponseCache"])
ModelConfig = GetMessageClass(_MESSAGES["ModelConfig"])
ModelConfigRequest = GetMessageClass(_MESSAGES["ModelConfigRequest"])
ModelConfigResponse = GetMessageClass(_MESSAGES["ModelConfigResponse"])
ModelStatisticsRequest = GetMessageClass(_MESSAGES["ModelStatisticsRequest"])
StatisticDuration = GetMessageClass(_MESSAGES["StatisticDuration"])
InferStatistics = GetMessageClass(_MESSAGES["InferStatistics"])
InferResponseStatistics = GetMessageClass(_MESSAGES["InferResponseStatistics"])
InferBatchStatistics = GetMessageClass(_MESSAGES["InferBatchStatistics"])
MemoryUsage = GetMessageClass(_MESSAGES["MemoryUsage"])
ModelStatistics = GetMessageClass(_MESSAGES["ModelStatistics"])
ModelStatisticsResponse = GetMessageClass(_MESSAGES["ModelStatisticsResponse"])
ModelRepositoryParameter = GetMessageClass(_MESSAGES["ModelRepositoryParameter"])
RepositoryIndexRequest = GetMessageClass(_MESSAGES["RepositoryIndexRequest"])
RepositoryIndexResponse = GetMessageClass(_MESSAGES["RepositoryIndexResponse"])
RepositoryModelLoadRequest = GetMessageClass(_MESSAGES["RepositoryModelLoadRequest"])
RepositoryModelLoadResponse = GetMessageClass(_MESSAGES["RepositoryModelLoadResponse"])
RepositoryModelUnloadRequest = GetMessageClass(_MESSAGES["RepositoryModelUnloadRequest"])
RepositoryModelUnloadResponse = GetMessageClass(_MESSAGES["RepositoryModelUnloadResponse"])
SystemSharedMemoryStatusRequest = GetMessageClass(_MESSAGES["SystemSharedMemoryStatusRequest"])
SystemSharedMemoryStatusResponse = GetMessageClass(_MESSAGES["SystemSharedMemoryStatusResponse"])
SystemSharedMemoryRegisterRequest = GetMessageClass(_MESSAGES["SystemSharedMemoryRegisterRequest"])
SystemSharedMemoryRegisterResponse = GetMessageClass(_MESSAGES["SystemSharedMemoryRegisterResponse"])
SystemSharedMemoryUnregisterRequest = GetMessageClass(_MESSAGES["SystemSharedMemoryUnregisterRequest"])
SystemSharedMemoryUnregisterResponse = GetMessageClass(_MESSAGES["SystemSharedMemoryUnregisterResponse"])
CudaSharedMemoryStatusRequest = GetMessageClass(_MESSAGES["CudaSharedMemoryStatusRequest"])
CudaSharedMemoryStatusResponse = GetMessageClass(_MESSAGES["CudaSharedMemoryStatusResponse"])
CudaSharedMemoryRegisterRequest = GetMessageClass(_MESSAGES["CudaSharedMemoryRegisterRequest"])
CudaSharedMemoryRegisterResponse = GetMessageClass(_MESSAGES["CudaSharedMemoryRegisterResponse"])
CudaSharedMemoryUnregisterRequest = GetMessageClass(_MESSAGES["CudaSharedMemoryUnregisterRequest"])
CudaSharedMemoryUnregisterResponse = GetMessageClass(_MESSAGES["CudaSharedMemoryUnregisterResponse"])
TraceSettingRequest = GetMessageClass(_MESSAGES["TraceSettingRequest"])
TraceSettingResponse = GetMessageClass(_MESSAGES["TraceSettingResponse"])
LogSettingsRequest = GetMessageClass(_MESSAGES["LogSettingsRequest"])
LogSettingsResponse = GetMessageClass(_MESSAGES["LogSettingsResponse"])
